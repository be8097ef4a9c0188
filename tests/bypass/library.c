// SPDX-License-Identifier: Apache-2.0 OR MIT
/* A library that shows that its code has run. */
#include <unistd.h>

__attribute__((constructor)) static void loaded(void)
{
	_exit(write(1, "done\n", 5) != 5);
}

/* Without it the dynamic linker takes no library for an auditing one. */
unsigned la_version(unsigned version);
unsigned la_version(unsigned version)
{
	return version;
}
