/* A hostile process 1: it waits for processes that join its pid namespace and goes for each before it has executed the
 * program that it is to become.
 *
 *   hunter SECONDS [stop] [forge CANARY]
 *
 * stop   every newcomer is stopped by SIGSTOP first, so that there is all the time in the world
 * leave  and is not continued
 * forge  takes the newcomer's socket to the engine and tells lies on it, about a process CANARY of the host
 *
 * Whatever is got from a newcomer whose name is still `wherry-init` is said as a line `early WHAT …`; the last line
 * says how many newcomers were seen early. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PIDFD_OPEN 434
#define PIDFD_GETFD 438

struct report {			/* as init/wherry-init.c has it */
	uint32_t kind;
	int32_t error;
	uint32_t step;
	int32_t value;
};

static int early(int pid)
{
	char path[64], name[32] = "";
	snprintf(path, sizeof path, "/proc/%d/comm", pid);
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		return 0;
	ssize_t size = read(fd, name, sizeof name - 1);
	close(fd);
	return size > 0 && (!strncmp(name, "wherry-init", 11) || !strncmp(name, "docker-init", 11));
}

static void got(int pid, const char *what, const char *detail)
{
	if (early(pid))
		printf("early %s %s\n", what, detail);
}

static void capabilities(int pid)
{
	char path[64], text[4096];
	snprintf(path, sizeof path, "/proc/%d/status", pid);
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		return;
	ssize_t size = read(fd, text, sizeof text - 1);
	close(fd);
	if (size <= 0)
		return;
	text[size] = 0;
	for (const char *set = "Prm\0Eff\0Bnd\0Inh\0Amb\0"; *set; set += 4) {
		char key[16];
		snprintf(key, sizeof key, "Cap%s:\t", set);
		char *found = strstr(text, key);
		if (!found)
			continue;
		char detail[64];
		snprintf(detail, sizeof detail, "%s %.16s", set, found + strlen(key));
		got(pid, "caps", detail);
	}
}

static void take_descriptors(int pid, int pidfd)
{
	char path[64], name[256], detail[320];

	for (int n = 0; n < 24; n++) {
		int fd = (int)syscall(PIDFD_GETFD, pidfd, n, 0);
		if (fd >= 0) {
			snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
			ssize_t size = readlink(path, name, sizeof name - 1);
			name[size < 0 ? 0 : size] = 0;
			snprintf(detail, sizeof detail, "%d %s", n, name);
			got(pid, "getfd", detail);
			close(fd);
		}
		snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, n);
		ssize_t size = readlink(path, name, sizeof name - 1);
		if (size > 0) {
			name[size] = 0;
			snprintf(detail, sizeof detail, "%d %s", n, name);
			got(pid, "link", detail);
		}
	}
}

static void look_inside(int pid)
{
	static const char *const FILES[] = { "mem", "exe", "cwd", "root", "maps", "environ", "auxv" };
	char path[64], buffer[64];
	struct iovec here = { buffer, sizeof buffer }, there = { (void *)0x400000, sizeof buffer };

	for (unsigned i = 0; i < sizeof FILES / sizeof *FILES; i++) {
		snprintf(path, sizeof path, "/proc/%d/%s", pid, FILES[i]);
		int fd = open(path, i < 2 ? O_RDWR : O_RDONLY);
		if (fd < 0 && i == 1)
			fd = open(path, O_RDONLY);
		if (fd < 0)
			continue;
		/* maps and its kin open for anybody, and say nothing. */
		if (i >= 4 && read(fd, buffer, 1) <= 0) {
			close(fd);
			continue;
		}
		got(pid, "open", FILES[i]);
		close(fd);
	}
	if (process_vm_readv(pid, &here, 1, &there, 1, 0) > 0)
		got(pid, "memory", "read");
	if (process_vm_writev(pid, &here, 1, &there, 1, 0) > 0)
		got(pid, "memory", "written");
}

static void seize(int pid)
{
	if (ptrace(PTRACE_SEIZE, pid, 0, 0) < 0)
		return;
	got(pid, "seized", "");
	capabilities(pid);
	if (ptrace(PTRACE_INTERRUPT, pid, 0, 0) == 0)
		waitpid(pid, 0, __WALL);
	ptrace(PTRACE_DETACH, pid, 0, 0);
}

static void say(int fd, char kind, int error, unsigned step, int value)
{
	struct report report = { (uint32_t)kind, error, step, value };
	if (send(fd, &report, sizeof report, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof report)
		printf("forged %c\n", kind);
}

static void forge(int pid, int pidfd, int canary)
{
	int fd = (int)syscall(PIDFD_GETFD, pidfd, 3, 0);
	if (fd < 0)
		return;
	got(pid, "socket", "");
	/* One more helper to wait for, which is killed when the start fails; another pid; then the failure. */
	say(fd, 'H', 0, 2, canary);
	say(fd, 'P', 0, 8, canary);
	send(fd, "D\3", 2, MSG_DONTWAIT | MSG_NOSIGNAL);
	send(fd, "?", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	send(fd, "J{\"class\":\"NotFound\",\"message\":\"forged\"}", 40, MSG_DONTWAIT | MSG_NOSIGNAL);
	say(fd, 'E', EPERM, 8, 0);
	/* And it is kept: who waits for its end waits for ever. */
}

int main(int count, char **arguments)
{
	int stopping = 0, leaving = 0, canary = 0;
	time_t end = time(0) + (count > 1 ? atoi(arguments[1]) : 10);
	int next = getpid() + 1, seen = 0;

	for (int i = 2; i < count; i++) {
		if (!strcmp(arguments[i], "stop"))
			stopping = 1;
		else if (!strcmp(arguments[i], "leave"))
			stopping = leaving = 1;
		else if (!strcmp(arguments[i], "forge") && i + 1 < count)
			canary = atoi(arguments[++i]);
	}
	setvbuf(stdout, 0, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	printf("hunting from %d\n", next);
	while (access("/tmp/stop", F_OK) && time(0) < end) {
		int pidfd = (int)syscall(PIDFD_OPEN, next, 0), pid = next;
		for (int ahead = 1; pidfd < 0 && ahead < 16; ahead++)
			pidfd = (int)syscall(PIDFD_OPEN, pid = next + ahead, 0);
		if (pidfd < 0)
			continue;
		next = pid + 1;
		if (stopping)
			kill(pid, SIGSTOP);
		seen += early(pid);
		capabilities(pid);
		if (canary)
			forge(pid, pidfd, canary);
		take_descriptors(pid, pidfd);
		look_inside(pid);
		seize(pid);
		if (stopping && !leaving)
			kill(pid, SIGCONT);
		close(pidfd);
		while (waitpid(-1, 0, WNOHANG | __WALL) > 0)
			;
	}
	printf("seen %d of %d\n", seen, next - getpid() - 1);
	return 0;
}
