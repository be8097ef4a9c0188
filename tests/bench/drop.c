// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * A running program that puts its own artifact in force by renaming it into the policies directory, and
 * tries from then on what the artifact does not declare, until it is refused. Prints the nanoseconds in
 * between: the time that a subject itself sees, whatever any daemon's clock says.
 *
 *   drop FROM TO FORBIDDEN
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* Between two tries, so that the daemon has the processor: the resolution of the figure. */
#define PAUSE_US 100
#define PATIENCE_NS 60000000000LL

static long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int argc, char **argv)
{
	long long start, passed;
	int fd;

	if (argc != 4)
		errx(2, "usage: drop FROM TO FORBIDDEN");
	fd = open(argv[3], O_RDONLY);
	if (fd < 0)
		err(1, "%s, before any artifact", argv[3]);
	close(fd);
	start = now();
	if (rename(argv[1], argv[2]))
		err(1, "rename to %s", argv[2]);
	for (;;) {
		fd = open(argv[3], O_RDONLY);
		passed = now() - start;
		if (fd < 0 && errno == EPERM)
			break;
		if (fd < 0)
			err(1, "%s", argv[3]);
		close(fd);
		if (passed > PATIENCE_NS)
			errx(1, "not refused within a minute");
		usleep(PAUSE_US);
	}
	printf("%lld\n", passed);
	return 0;
}
