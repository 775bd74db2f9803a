/* Takes a lease for writing on a file of its own: whoever opens that has to wait until the holder lets go, or 45 s.
 *
 *   lease FILE          says "leased", and holds it */

#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <errno.h>
#include <unistd.h>

int main(int count, char **arguments)
{
	int fd = count > 1 ? open(arguments[1], O_RDWR) : -1;

	signal(SIGIO, SIG_IGN);
	if (fd < 0 || fcntl(fd, F_SETLEASE, F_WRLCK) < 0) {
		/* Some file systems give none: then there is nothing to be attacked with. */
		printf("leased not at all: %s\n", strerror(errno));
	} else {
		printf("leased\n");
	}
	fflush(stdout);
	pause();
	return 0;
}
