/* Goes for one process by its number.
 *
 *   reach PID           a line for each way: "kill ESRCH", "ptrace EPERM", "memory ok" …
 *   reach --connect     tries every socket in the abstract namespace: "connected NAME"
 *   reach --keys        makes a key in each keyring, and says what it sees there: "session …", "user …"
 *   reach --handle TYPE HEX   opens a file by its handle, on the file system of /attacks, and prints its beginning */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

static void say(const char *what, long done)
{
	printf("%s %s\n", what, done < 0 ? strerrorname_np(errno) : "ok");
}

static void reach(int pid)
{
	char path[64], buffer[8];
	struct iovec here = { buffer, sizeof buffer }, there = { (void *)0x400000, sizeof buffer };

	say("kill", kill(pid, 0));
	say("memory", process_vm_readv(pid, &here, 1, &there, 1, 0));
	say("ptrace", ptrace(PTRACE_SEIZE, pid, 0, 0));
	say("pidfd", syscall(434, pid, 0));
	snprintf(path, sizeof path, "/proc/%d/mem", pid);
	say("mem", open(path, O_RDWR));
	snprintf(path, sizeof path, "/proc/%d/root", pid);
	say("root", open(path, O_PATH));
	snprintf(path, sizeof path, "/proc/%d/fd/0", pid);
	say("fd", open(path, O_PATH));
}

static void connect_all(void)
{
	char line[512];
	FILE *list = fopen("/proc/net/unix", "r");

	while (list && fgets(line, sizeof line, list)) {
		char *name = strchr(line, '@');
		if (!name)
			continue;
		name[strcspn(name, "\n")] = 0;
		struct sockaddr_un address = { .sun_family = AF_UNIX };
		size_t size = strlen(name + 1);
		if (size >= sizeof address.sun_path)
			continue;
		memcpy(address.sun_path + 1, name + 1, size);
		for (int kind = SOCK_STREAM; kind <= SOCK_SEQPACKET; kind++) {
			int fd = socket(AF_UNIX, kind, 0);
			if (fd >= 0 && connect(fd, (void *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + size) == 0)
				printf("connected %s\n", name);
			close(fd);
		}
	}
}

static void keys(void)
{
	static const struct { const char *name; int ring; } RINGS[] = { { "session", -3 }, { "user", -4 } };

	for (int i = 0; i < 2; i++) {
		int found[64];
		long size = syscall(__NR_keyctl, 11 /* read */, RINGS[i].ring, found, sizeof found);
		printf("%s ring %ld holds", RINGS[i].name, syscall(__NR_keyctl, 0 /* id */, RINGS[i].ring, 0));
		for (long j = 0; j < size / (long)sizeof *found; j++) {
			char about[256];
			long length = syscall(__NR_keyctl, 6 /* describe */, found[j], about, sizeof about - 1);
			about[length < 0 ? 0 : length] = 0;
			char *name = strrchr(about, ';');
			printf(" %s", name ? name + 1 : "?");
		}
		printf("\n");
		say(RINGS[i].name, syscall(__NR_add_key, "user", "wherry-test", "secret", 6, RINGS[i].ring));
	}
}

static void by_handle(int type, const char *hex)
{
	struct { unsigned size; int type; unsigned char bytes[128]; } handle = { .type = type };
	char text[64];

	for (; hex[0] && hex[1] && handle.size < sizeof handle.bytes; hex += 2)
		sscanf(hex, "%2hhx", &handle.bytes[handle.size++]);
	int top = open("/attacks", O_RDONLY | O_DIRECTORY);
	int fd = (int)syscall(__NR_open_by_handle_at, top, &handle, O_RDONLY);
	say("handle", fd);
	ssize_t size = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
	if (size > 0)
		printf("%.*s\n", (int)size, text);
}

int main(int count, char **arguments)
{
	setvbuf(stdout, 0, _IOLBF, 0);
	if (count == 2 && !strcmp(arguments[1], "--connect"))
		connect_all();
	else if (count == 2 && !strcmp(arguments[1], "--keys"))
		keys();
	else if (count == 4 && !strcmp(arguments[1], "--handle"))
		by_handle(atoi(arguments[2]), arguments[3]);
	else if (count == 2)
		reach(atoi(arguments[1]));
	return 0;
}
