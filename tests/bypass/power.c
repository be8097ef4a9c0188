// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Powers over the machine: mounts, namespaces, BPF, modules, keys, terminals. */
#include "bypass.h"
#include <linux/bpf.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/io.h>
#include <termios.h>
#include <time.h>

/* <sys/mount.h> and <linux/mount.h> of glibc 2.36 do not get along. */
int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);
#define OLD_BIND 4096

static int private_mounts(void)
{
	TRY(unshare(CLONE_NEWNS));
	return TRY(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
}

static int bind_mount(void)
{
	TRY(mount(at("shut"), at("open/d"), NULL, OLD_BIND, NULL));
	return show_file(at("open/d/secret"));
}

static int bind_in_namespace(void)
{
	if (private_mounts())
		return 1;
	return bind_mount();
}

static int bind_as_own_root(void)
{
	TRY(unshare(CLONE_NEWUSER | CLONE_NEWNS));
	return bind_mount();
}

static int cloned_as_own_root(void)
{
	pid_t child = TRY(syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0));

	if (!child)
		_exit(bind_mount());
	return end_of(child);
}

static int detached_tree(void)
{
	int tree = TRY(syscall(SYS_open_tree, AT_FDCWD, at("shut"), OPEN_TREE_CLONE));

	return show(TRY(openat(tree, "secret", O_RDONLY)));
}

static int moved_tree(void)
{
	int tree = TRY(syscall(SYS_open_tree, AT_FDCWD, at("shut"), OPEN_TREE_CLONE));

	TRY(syscall(SYS_move_mount, tree, "", AT_FDCWD, at("open/d"), MOVE_MOUNT_F_EMPTY_PATH));
	return show_file(at("open/d/secret"));
}

static int new_file_system(void)
{
	int system = TRY(syscall(SYS_fsopen, "tmpfs", 0));

	TRY(syscall(SYS_fsconfig, system, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	return TRY(syscall(SYS_fsmount, system, 0, 0)) < 0;
}

static int overlay(void)
{
	char options[4200];

	snprintf(options, sizeof(options), "lowerdir=%s:%s", at("shut"), at("open"));
	TRY(mount("none", at("open/d"), "overlay", 0, options));
	return show_file(at("open/d/secret"));
}

static int mount_attributes(void)
{
	struct mount_attr attributes = {};

	return TRY(syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, &attributes, sizeof(attributes)));
}

static int enters_mounts(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", victim);
	return TRY(setns(TRY(open(path, O_RDONLY)), CLONE_NEWNS));
}

static int enters_by_pidfd(void)
{
	return TRY(setns(TRY(syscall(SYS_pidfd_open, victim, 0)), CLONE_NEWNS | CLONE_NEWUTS));
}

static int other_root(void)
{
	TRY(chroot(at("shut")));
	return show_file("/secret");
}

static int other_root_as_own_root(void)
{
	TRY(unshare(CLONE_NEWUSER));
	return other_root();
}

static int pivots(void)
{
	if (private_mounts())
		return 1;
	TRY(mount(at("shut"), at("shut"), NULL, OLD_BIND, NULL));
	TRY(chdir(at("shut")));
	TRY(syscall(SYS_pivot_root, ".", "."));
	return show_file("/secret");
}

static int unshares_user(void)
{
	return TRY(unshare(CLONE_NEWUSER));
}

static int unshares_network(void)
{
	return TRY(unshare(CLONE_NEWNET));
}

static int unshares_all(void)
{
	return TRY(unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID |
			   CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP));
}

static int bpf(int command, union bpf_attr *attributes)
{
	return syscall(SYS_bpf, command, attributes, sizeof(*attributes));
}

static int bpf_map(void)
{
	union bpf_attr map = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};

	return TRY(bpf(BPF_MAP_CREATE, &map)) < 0;
}

static int bpf_program(void)
{
	static const struct bpf_insn instructions[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K},
						       {.code = BPF_JMP | BPF_EXIT}};
	union bpf_attr program = {
		.prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
		.insn_cnt = 2,
		.insns = (uintptr_t)instructions,
		.license = (uintptr_t) "GPL",
	};

	return TRY(bpf(BPF_PROG_LOAD, &program)) < 0;
}

/* Any map of the node, then: by number. */
static int bpf_other_map(void)
{
	union bpf_attr next = {}, get = {};

	TRY(bpf(BPF_MAP_GET_NEXT_ID, &next));
	get.map_id = next.next_id;
	return TRY(bpf(BPF_MAP_GET_FD_BY_ID, &get)) < 0;
}

/* What enforces all this, by its pin. */
static int bpf_pin(void)
{
	union bpf_attr get = {.pathname = (uintptr_t) "/sys/fs/bpf/cartouche/slots"};

	return TRY(bpf(BPF_OBJ_GET, &get)) < 0;
}

static int counts(void)
{
	struct perf_event_attr attributes = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attributes),
		.config = PERF_COUNT_SW_PAGE_FAULTS,
	};

	return TRY(syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0)) < 0;
}

static int samples_others(void)
{
	struct perf_event_attr attributes = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attributes),
		.config = PERF_COUNT_SW_CPU_CLOCK,
	};

	return TRY(syscall(SYS_perf_event_open, &attributes, victim, -1, -1, 0)) < 0;
}

/* Both end in ENOEXEC where nobody refuses: there is no module in it. */
static int module(void)
{
	syscall(SYS_init_module, "x", 1, "");
	return errno == ENOEXEC ? 0 : stopped("init_module");
}

static int module_file(void)
{
	syscall(SYS_finit_module, TRY(open(at("open/file"), O_RDONLY)), "", 0);
	return errno == ENOEXEC ? 0 : stopped("finit_module");
}

static int another_kernel(void)
{
	return TRY(syscall(SYS_kexec_load, 0, 0, 0, 0));
}

static int another_kernel_file(void)
{
	return TRY(syscall(SYS_kexec_file_load, -1, -1, 0, 0, 1 /* KEXEC_FILE_UNLOAD */));
}

static int key(void)
{
	return TRY(syscall(SYS_add_key, "user", "bypass", "1", 1, KEY_SPEC_PROCESS_KEYRING)) < 0;
}

static int session_keys(void)
{
	return TRY(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL)) < 0;
}

static int user_keys(void)
{
	char text[256];

	return TRY(syscall(SYS_keyctl, KEYCTL_READ, KEY_SPEC_USER_KEYRING, text, sizeof(text))) < 0;
}

static int persistent_keys(void)
{
	return TRY(syscall(SYS_keyctl, KEYCTL_GET_PERSISTENT, -1, KEY_SPEC_PROCESS_KEYRING)) < 0;
}

static int page_faults(void)
{
	return TRY(syscall(SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */)) < 0;
}

static int page_faults_by_device(void)
{
	return TRY(ioctl(TRY(open("/dev/userfaultfd", O_RDWR)), 0xaa00 /* USERFAULTFD_IOC_NEW */,
			 0)) < 0;
}

static int ports(void)
{
	return TRY(iopl(3));
}

static int port_range(void)
{
	return TRY(ioperm(0x80, 1, 1));
}

static int host_name(void)
{
	return TRY(sethostname("cartouche", 9));
}

static int kernel_log(void)
{
	char text[64];

	return TRY(syscall(SYS_syslog, 3 /* SYSLOG_ACTION_READ_ALL */, text, sizeof(text))) < 0;
}

static int accounting(void)
{
	return TRY(syscall(SYS_acct, NULL));
}

static int key_combination(void)
{
	return TRY(syscall(SYS_reboot, 0xfee1dead, 672274793, 0 /* CAD off */, NULL));
}

static int watches_all(void)
{
	return TRY(fanotify_init(FAN_CLASS_NOTIF, O_RDONLY)) < 0;
}

static int swaps_off(void)
{
	syscall(SYS_swapoff, at("open/file"));
	return errno == EINVAL ? 0 : stopped("swapoff");
}

static int clock_set(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return TRY(clock_settime(CLOCK_REALTIME, &now));
}

/* Who leads a process group cannot lead a session. */
static int in_session(int (*act)(void))
{
	pid_t child = TRY(fork());

	if (!child) {
		setsid();
		_exit(act());
	}
	return end_of(child);
}

/* A new terminal that is its controlling one. */
static int own_terminal(void)
{
	int number, unlock = 0, master = TRY(open("/dev/ptmx", O_RDWR | O_NOCTTY));
	char path[64];

	ioctl(master, TIOCSPTLCK, &unlock);
	ioctl(master, TIOCGPTN, &number);
	snprintf(path, sizeof(path), "/dev/pts/%d", number);
	return open(path, O_RDWR);
}

static int types_here(void)
{
	return TRY(ioctl(TRY(own_terminal()), TIOCSTI, "x"));
}

static int types(void)
{
	return in_session(types_here);
}

static int types_here_32(void)
{
	int terminal = TRY(own_terminal());
	char *byte = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	long result = 54; /* ioctl */

	*byte = 'x';
	asm volatile("int $0x80"
		     : "+a"(result)
		     : "b"((long)terminal), "c"((long)TIOCSTI), "d"(byte)
		     : "r8", "r9", "r10", "r11", "memory");
	errno = result < 0 ? -result : 0;
	return result < 0 ? stopped("int $0x80") : 0;
}

static int types_32(void)
{
	return in_session(types_here_32);
}

/* A pseudo terminal has no selection: ENOTTY where nobody refuses. */
static int selects_here(void)
{
	char selection[32] = {2 /* TIOCL_SETSEL */};
	int terminal = TRY(own_terminal());

	ioctl(terminal, 0x541c /* TIOCLINUX */, selection);
	return errno == ENOTTY ? 0 : stopped("TIOCLINUX");
}

static int selects(void)
{
	return in_session(selects_here);
}

static int hangs_up(void)
{
	return TRY(vhangup());
}

/* Opens by the entry for 32-bit programs. */
static int opens_32(void)
{
	char *path = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	long result = 5; /* open */

	strcpy(path, at("secret"));
	asm volatile("int $0x80"
		     : "+a"(result)
		     : "b"(path), "c"(0L), "d"(0L)
		     : "r8", "r9", "r10", "r11", "memory");
	errno = result < 0 ? -result : 0;
	return result < 0 ? stopped("int $0x80") : show(result);
}

static int first_page(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	return TRY(page == MAP_FAILED ? -1 : 0);
}

const struct trick power_tricks[] = {
	{"bind-mount", bind_mount},
	{"bind-in-namespace", bind_in_namespace},
	{"bind-as-own-root", bind_as_own_root},
	{"cloned-as-own-root", cloned_as_own_root},
	{"detached-tree", detached_tree},
	{"moved-tree", moved_tree},
	{"new-file-system", new_file_system},
	{"overlay", overlay},
	{"mount-attributes", mount_attributes},
	{"enters-mounts", enters_mounts},
	{"enters-by-pidfd", enters_by_pidfd},
	{"chroot", other_root},
	{"chroot-as-own-root", other_root_as_own_root},
	{"pivot-root", pivots},
	{"unshare-user", unshares_user},
	{"unshare-network", unshares_network},
	{"unshare-all", unshares_all},
	{"bpf-map", bpf_map},
	{"bpf-program", bpf_program},
	{"bpf-other-map", bpf_other_map},
	{"bpf-pin", bpf_pin},
	{"perf", counts},
	{"perf-others", samples_others},
	{"module", module},
	{"module-file", module_file},
	{"kexec", another_kernel},
	{"kexec-file", another_kernel_file},
	{"key", key},
	{"session-keyring", session_keys},
	{"user-keyring", user_keys},
	{"persistent-keyring", persistent_keys},
	{"userfaultfd", page_faults},
	{"userfaultfd-device", page_faults_by_device},
	{"io-ports", ports},
	{"io-port-range", port_range},
	{"host-name", host_name},
	{"kernel-log", kernel_log},
	{"accounting", accounting},
	{"reboot", key_combination},
	{"fanotify", watches_all},
	{"swap", swaps_off},
	{"clock", clock_set},
	{"terminal-typed", types},
	{"terminal-typed-32", types_32},
	{"terminal-selected", selects},
	{"hang-up", hangs_up},
	{"open-32", opens_32},
	{"first-page", first_page},
	{},
};
