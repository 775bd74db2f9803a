/* Exchanges directories and a file with links that lead out, a pipe and an empty directory, as fast as it can.
 *
 *     exchanger DIRECTORY OUTSIDE      in DIRECTORY: dir, file, deep, deep/dir, deep/dir/inner. OUTSIDE is a directory of
 *                                    the host, with a file of that name in it. It ends when it is killed
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif

static char outside[4096], file[4096], upward[8192];
static const char *const links[] = {
	"/", "/etc", outside, file, upward, "/proc/1/root", "/proc/self/root", "/proc/self/cwd", "/dev", "..",
};
enum { LINKS = sizeof links / sizeof *links, OTHERS = LINKS + 2 };

int main(int argc, char **argv)
{
	static const char *const places[] = { "dir", "file", "deep/dir", "deep/dir/inner", "deep" };
	char name[32];
	unsigned long i;

	if (argc != 3 || chdir(argv[1]) != 0)
		return 1;
	snprintf(outside, sizeof outside, "%s", argv[2]);
	snprintf(file, sizeof file, "%s/file", argv[2]);
	snprintf(upward, sizeof upward, "../../../../../../../../..%s", argv[2]);
	umask(0);
	for (i = 0; i < LINKS; i++) {
		snprintf(name, sizeof name, "%lu", i);
		if (symlink(links[i], name) != 0)
			return 1;
	}
	snprintf(name, sizeof name, "%d", LINKS);
	if (mkfifo(name, 0666) != 0)
		return 1;
	snprintf(name, sizeof name, "%d", LINKS + 1);
	if (mkdir(name, 0777) != 0)
		return 1;
	for (i = 0;; i++) {
		snprintf(name, sizeof name, "%lu", i / 5 % OTHERS);
		/* There and back again: what is there is right half of the time. */
		syscall(SYS_renameat2, AT_FDCWD, places[i % 5], AT_FDCWD, name, RENAME_EXCHANGE);
		syscall(SYS_renameat2, AT_FDCWD, places[i % 5], AT_FDCWD, name, RENAME_EXCHANGE);
	}
}
