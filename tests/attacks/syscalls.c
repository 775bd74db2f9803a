/* syscalls ARCHITECTURE:NUMBER[:FIRST[:SECOND]] …: what the kernel answers to system calls made by number, a line each.
 *
 * x86_64 and x32 come by `syscall`, i386 by `int 0x80` as a 32-bit program's would. The other arguments are 0. A line is
 * "ARCHITECTURE:NUMBER result" with a result below 0 for an errno, or "signal N" where the call killed its process.
 */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define X32 0x40000000L

static long by_syscall(long number, long first, long second)
{
	long result;
	register long r10 __asm__("r10") = 0;
	register long r8 __asm__("r8") = 0;
	register long r9 __asm__("r9") = 0;
	__asm__ volatile("syscall" : "=a"(result)
			 : "a"(number), "D"(first), "S"(second), "d"(0L), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return result;
}

static long by_interrupt(long number, long first, long second)
{
	long result;
	__asm__ volatile("int $0x80" : "=a"(result)
			 : "a"(number), "b"(first), "c"(second), "d"(0L), "S"(0L), "D"(0L)
			 : "r8", "r9", "r10", "r11", "memory");
	return (long)(int)result;
}

int main(int count, char **words)
{
	for (int i = 1; i < count; i++) {
		char kind[16];
		long number = 0, first = 0, second = 0;
		if (sscanf(words[i], "%15[^:]:%ld:%ld:%ld", kind, &number, &first, &second) < 2)
			return 2;
		fflush(stdout);
		pid_t child = fork();
		if (child == 0) {
			long result;
			if (!strcmp(kind, "i386"))
				result = by_interrupt(number, first, second);
			else
				result = by_syscall(number | (strcmp(kind, "x32") ? 0 : X32), first, second);
			printf("%s:%ld %ld\n", kind, number, result);
			fflush(stdout);
			_exit(0);
		}
		int status = 0;
		waitpid(child, &status, 0);
		if (WIFSIGNALED(status))
			printf("%s:%ld signal %d\n", kind, number, WTERMSIG(status));
	}
	return 0;
}
