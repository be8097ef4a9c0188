// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Other names, other doors and other moments for the same file. */
#include "bypass.h"
#include <dirent.h>
#include <linux/fs.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define SHUT_FILE at("shut/file")

static int plainly(void)
{
	return read_secret();
}

static int by_symlink(void)
{
	TRY(symlink(at("secret"), at("open/link")));
	return show_file(at("open/link"));
}

static int by_relative_way(void)
{
	return show_file(at("open/../secret"));
}

static int by_hard_link(void)
{
	TRY(link(at("secret"), at("open/link")));
	return show_file(at("open/link"));
}

/* A path descriptor is opened without a word of anybody's. */
static int path_link(void)
{
	int fd = TRY(open(at("secret"), O_PATH));

	TRY(linkat(fd, "", AT_FDCWD, at("open/link"), AT_EMPTY_PATH));
	return show_file(at("open/link"));
}

static int proc_link(void)
{
	char path[64];
	int fd = TRY(open(at("secret"), O_PATH));

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	TRY(linkat(AT_FDCWD, path, AT_FDCWD, at("open/link"), AT_SYMLINK_FOLLOW));
	return show_file(at("open/link"));
}

static int by_rename(void)
{
	TRY(rename(at("secret"), at("open/secret")));
	return show_file(at("open/secret"));
}

static int by_exchange(void)
{
	TRY(syscall(SYS_renameat2, AT_FDCWD, at("secret"), AT_FDCWD, at("open/file"),
		    RENAME_EXCHANGE));
	return show_file(at("open/file"));
}

static int by_directory_exchange(void)
{
	TRY(syscall(SYS_renameat2, AT_FDCWD, at("shut/d"), AT_FDCWD, at("open/d"),
		    RENAME_EXCHANGE));
	return show_file(at("open/d/secret"));
}

/* What is above the rules gets the name of what they name. */
static int by_ancestor(void)
{
	TRY(rename(at("open"), at("gone")));
	TRY(rename(at("shut"), at("open")));
	return show_file(at("open/secret"));
}

static int reopened(void)
{
	char path[64];
	int fd = TRY(open(at("secret"), O_PATH));

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return show_file(path);
}

/* Read-only by its rule, opened to be written by the descriptor's own name. */
static int reopened_to_write(void)
{
	char path[64];
	int fd = TRY(open(at("shut/file"), O_RDONLY));

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd = TRY(open(path, O_WRONLY));
	return TRY(write(fd, "changed", 7)) != 7;
}

static int truncated_by_reading(void)
{
	return TRY(open(SHUT_FILE, O_RDONLY | O_TRUNC)) < 0;
}

static int below_a_path(void)
{
	int directory = TRY(open(at("shut"), O_PATH | O_DIRECTORY));

	return show(TRY(openat(directory, "secret", O_RDONLY)));
}

static int by_self_root(void)
{
	char path[4096];

	snprintf(path, sizeof(path), "/proc/self/root%s", at("secret"));
	return show_file(path);
}

static int by_self_directory(void)
{
	TRY(chdir(room));
	return show_file("/proc/self/cwd/secret");
}

static int by_thread_self(void)
{
	char path[4096];

	snprintf(path, sizeof(path), "/proc/thread-self/root%s", at("secret"));
	return show_file(path);
}

static int by_handle(void)
{
	struct {
		struct file_handle handle;
		char bytes[128];
	} space = {.handle.handle_bytes = 128};
	int mount, directory = TRY(open("/", O_RDONLY | O_DIRECTORY));

	TRY(name_to_handle_at(AT_FDCWD, at("secret"), &space.handle, &mount, 0));
	return show(TRY(open_by_handle_at(directory, &space.handle, O_RDONLY)));
}

static int by_its_way(void)
{
	struct open_how {
		uint64_t flags, mode, resolve;
	} how = {O_RDONLY, 0, 0x10 /* RESOLVE_IN_ROOT */};
	int directory = TRY(open(room, O_PATH));

	return show(
		TRY(syscall(SYS_openat2, directory, "/open/../../../secret", &how, sizeof(how))));
}

/* The open flag that the kernel sets for itself in execve. */
static int as_program(void)
{
	return show(TRY(open(at("secret"), O_RDONLY | 0x20)));
}

static int for_ioctl_only(void)
{
	char path[64];
	int fd = TRY(open(at("secret"), O_ACCMODE));

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return show_file(path);
}

static int odd_name(void)
{
	return show_file(at("shut/new\nline"));
}

static int odd_bytes(void)
{
	return show_file(at("shut/\xff\xfe"));
}

static int makes_odd_name(void)
{
	return TRY(mkdir(at("shut/made\xff\n(deleted)"), 0777));
}

/* A name of the longest kind, so that nothing of the path fits where it is compared. */
static int long_name(const char *from)
{
	char name[256] = "";
	int i;

	memset(name, 'n', sizeof(name) - 1);
	TRY(chdir(from));
	for (i = 0; i < 20; i++) {
		if (mkdir(name, 0777) && errno != EEXIST)
			return stopped("a long path");
		TRY(chdir(name));
	}
	return 0;
}

/* A file that is named by more than PATH_MAX bytes is opened by the end of its name. */
static int beyond_path_max(void)
{
	if (long_name(at("open/d")))
		return 1;
	TRY(symlink(at("secret"), "link"));
	return show_file("link");
}

static int makes_beyond_path_max(void)
{
	if (long_name(at("shut/d")))
		return 1;
	return TRY(creat("made", 0666)) < 0;
}

/* Longer than a rule, with the beginning of one. */
static int beyond_a_rule(void)
{
	char name[256] = "", path[1024];

	memset(name, 'n', 240);
	snprintf(path, sizeof(path), "%s/%s", at("open"), name);
	TRY(mkdir(path, 0777));
	snprintf(path, sizeof(path), "%s/%s/../../secret", at("open"), name);
	return show_file(path);
}

static int creates(void)
{
	return TRY(creat(at("shut/made"), 0666)) < 0;
}

static int named_later(void)
{
	char path[64];
	int fd = TRY(open(at("open"), O_TMPFILE | O_RDWR, 0666));

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return TRY(linkat(AT_FDCWD, path, AT_FDCWD, at("shut/made"), AT_SYMLINK_FOLLOW));
}

static int removed(void)
{
	return TRY(unlink(SHUT_FILE));
}

static int makes_link(void)
{
	return TRY(symlink("/", at("shut/made")));
}

static int makes_fifo(void)
{
	return TRY(mkfifo(at("shut/made"), 0666));
}

static int written(void)
{
	int fd = TRY(open(SHUT_FILE, O_WRONLY));

	return TRY(write(fd, "changed", 7)) != 7;
}

static int truncated(void)
{
	return TRY(truncate(SHUT_FILE, 1));
}

static int mode(void)
{
	return TRY(chmod(SHUT_FILE, 0700));
}

/* By a path descriptor, since 6.6. */
static int mode_by_path(void)
{
	return TRY(syscall(452 /* fchmodat2 */, TRY(open(SHUT_FILE, O_PATH)), "", 0700,
			   AT_EMPTY_PATH));
}

static int mode_by_proc(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", (int)TRY(open(SHUT_FILE, O_PATH)));
	return TRY(chmod(path, 0700));
}

static int owner_by_path(void)
{
	return TRY(fchownat(TRY(open(SHUT_FILE, O_PATH)), "", -1, getegid(), AT_EMPTY_PATH));
}

static int owner(void)
{
	return TRY(chown(SHUT_FILE, 1, 1));
}

static int times(void)
{
	struct timespec then[2] = {{1, 0}, {1, 0}};

	return TRY(utimensat(AT_FDCWD, SHUT_FILE, then, 0));
}

static int times_by_path(void)
{
	struct timespec then[2] = {{1, 0}, {1, 0}};

	return TRY(utimensat(TRY(open(SHUT_FILE, O_PATH)), "", then, AT_EMPTY_PATH));
}

static int attribute(void)
{
	return TRY(setxattr(SHUT_FILE, "user.made", "1", 1, 0));
}

static int attribute_by_proc(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", (int)TRY(open(SHUT_FILE, O_PATH)));
	return TRY(setxattr(path, "user.made", "1", 1, 0));
}

/* linux/posix_acl_xattr.h: one more user than the mode names. */
static int access_list(void)
{
	static const struct {
		uint32_t version;
		struct {
			uint16_t tag, permissions;
			uint32_t id;
		} entries[5];
	} list = {2, {{1, 6, -1}, {2, 7, 1000}, {4, 4, -1}, {16, 7, -1}, {32, 4, -1}}};

	return TRY(setxattr(SHUT_FILE, "system.posix_acl_access", &list, sizeof(list), 0));
}

static int file_flags(void)
{
	int flags, fd = TRY(open(SHUT_FILE, O_RDONLY));

	TRY(ioctl(fd, FS_IOC_GETFLAGS, &flags));
	flags |= FS_NODUMP_FL;
	return TRY(ioctl(fd, FS_IOC_SETFLAGS, &flags));
}

static int has_bits(const char *path)
{
	struct stat found;

	TRY(stat(path, &found));
	errno = ENODATA;
	return found.st_mode & (S_ISUID | S_ISGID) ? 0 : stopped("the bits");
}

static int set_id_by_mode(void)
{
	TRY(chmod(at("open/file"), 06755));
	return has_bits(at("open/file"));
}

static int set_id_made(void)
{
	umask(0);
	TRY(open(at("open/made"), O_CREAT | O_EXCL | O_RDWR, 06755));
	return has_bits(at("open/made"));
}

static int set_id_node(void)
{
	umask(0);
	TRY(mknod(at("open/made"), S_IFREG | 06755, 0));
	return has_bits(at("open/made"));
}

static int set_id_nameless(void)
{
	char path[64];
	int fd;

	umask(0);
	fd = TRY(open(at("open"), O_TMPFILE | O_RDWR, 06755));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	TRY(linkat(AT_FDCWD, path, AT_FDCWD, at("open/made"), AT_SYMLINK_FOLLOW));
	return has_bits(at("open/made"));
}

static int set_id_directory(void)
{
	umask(0);
	TRY(mkdir(at("open/made"), 0777));
	TRY(chmod(at("open/made"), 02777));
	return has_bits(at("open/made"));
}

/* An access list sets the mode, too. */
static int set_id_moved(void)
{
	TRY(link(at("set-id"), at("open/made")));
	return has_bits(at("open/made"));
}

static int character_device(void)
{
	return TRY(mknod(at("open/made"), S_IFCHR | 0666, makedev(1, 3)));
}

static int block_device(void)
{
	return TRY(mknod(at("open/made"), S_IFBLK | 0666, makedev(254, 0)));
}

static int whiteout(void)
{
	return TRY(mknod(at("open/made"), S_IFCHR, 0));
}

/* rename can leave one behind. */
static int whiteout_by_rename(void)
{
	return TRY(syscall(SYS_renameat2, AT_FDCWD, at("open/file"), AT_FDCWD, at("open/moved"),
			   RENAME_WHITEOUT));
}

static int file_capability(void)
{
	static const uint32_t chown_to_all[] = {0x02000001, 1, 0, 0, 0};

	return TRY(setxattr(at("open/file"), "security.capability", chown_to_all,
			    sizeof(chown_to_all), 0));
}

static int listed(void)
{
	struct dirent *entry;
	DIR *directory = opendir(at("shut"));

	TRY(directory ? 0 : -1);
	while ((entry = readdir(directory)))
		if (!strcmp(entry->d_name, "secret"))
			return 0;
	return 1;
}

static int notified(void)
{
	return TRY(fcntl(TRY(open(at("shut"), O_RDONLY)), F_NOTIFY, DN_CREATE));
}

static int watched(void)
{
	return TRY(inotify_add_watch(TRY(inotify_init()), at("shut"), IN_ALL_EVENTS)) < 0;
}

/* Names of what happens, by the interface that needs no capability any more. */
static int marked(void)
{
	int fd = TRY(syscall(SYS_fanotify_init, FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME, O_RDONLY));

	return TRY(syscall(SYS_fanotify_mark, fd, FAN_MARK_ADD, FAN_CREATE | FAN_ONDIR, AT_FDCWD,
			   at("shut")));
}

static int mapped(void)
{
	int fd = TRY(open(at("secret"), O_RDONLY));
	char *text = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

	return show_text(text, strnlen(text, 128));
}

static int asked(void)
{
	struct stat found;

	return TRY(stat(at("secret"), &found));
}

static int asked_for_access(void)
{
	return TRY(access(at("secret"), R_OK));
}

static int link_text(void)
{
	char text[256];
	ssize_t length = TRY(readlink(at("points"), text, sizeof(text)));

	return show_text(text, length);
}

static int attribute_read(void)
{
	char text[256];
	ssize_t length = TRY(getxattr(at("secret"), "user.secret", text, sizeof(text)));

	return show_text(text, length);
}

static int leased(void)
{
	return TRY(fcntl(TRY(open(SHUT_FILE, O_RDONLY)), F_SETLEASE, F_RDLCK));
}

/* The kernel itself writes a file, where a process dies. */
static int core_dumped(void)
{
	struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
	pid_t child = TRY(fork());

	if (!child) {
		if (chdir(at("shut")) || setrlimit(RLIMIT_CORE, &all))
			_exit(1);
		abort();
	}
	end_of(child);
	return 0;
}

/* A program of the kernel's choice that the administrator's files name. */
static int kernel_helper(void)
{
	return TRY(open("/proc/sys/kernel/core_pattern", O_WRONLY)) < 0;
}

static int kernel_modprobe(void)
{
	return TRY(open("/proc/sys/kernel/modprobe", O_WRONLY)) < 0;
}

static int raw_disk(void)
{
	char byte;
	int fd = TRY(open("/dev/vda", O_RDONLY));

	return TRY(read(fd, &byte, 1)) != 1;
}

static int raw_memory(void)
{
	return TRY(open("/dev/mem", O_RDONLY)) < 0;
}

const struct trick file_tricks[] = {
	{"plainly", plainly},
	{"symbolic-link", by_symlink},
	{"dots", by_relative_way},
	{"hard-link", by_hard_link},
	{"path-linked", path_link},
	{"proc-linked", proc_link},
	{"renamed", by_rename},
	{"exchanged", by_exchange},
	{"directory-exchanged", by_directory_exchange},
	{"ancestor-renamed", by_ancestor},
	{"path-reopened", reopened},
	{"reopened-to-write", reopened_to_write},
	{"truncated-by-reading", truncated_by_reading},
	{"below-a-path", below_a_path},
	{"self-root", by_self_root},
	{"self-directory", by_self_directory},
	{"thread-self-root", by_thread_self},
	{"file-handle", by_handle},
	{"resolved-in-root", by_its_way},
	{"open-as-program", as_program},
	{"open-for-ioctl", for_ioctl_only},
	{"name-with-newline", odd_name},
	{"name-without-text", odd_bytes},
	{"odd-name-made", makes_odd_name},
	{"path-beyond-4096", beyond_path_max},
	{"path-beyond-4096-made", makes_beyond_path_max},
	{"path-beyond-255", beyond_a_rule},
	{"created", creates},
	{"nameless-linked", named_later},
	{"removed", removed},
	{"link-made", makes_link},
	{"fifo-made", makes_fifo},
	{"written", written},
	{"truncated", truncated},
	{"mode-changed", mode},
	{"mode-changed-by-path", mode_by_path},
	{"mode-changed-by-proc", mode_by_proc},
	{"owner-changed", owner},
	{"owner-changed-by-path", owner_by_path},
	{"times-changed", times},
	{"times-changed-by-path", times_by_path},
	{"attribute-set", attribute},
	{"attribute-set-by-proc", attribute_by_proc},
	{"access-list-set", access_list},
	{"flags-set", file_flags},
	{"set-id-by-mode", set_id_by_mode},
	{"set-id-made", set_id_made},
	{"set-id-node", set_id_node},
	{"set-id-nameless", set_id_nameless},
	{"set-id-directory", set_id_directory},
	{"set-id-linked", set_id_moved},
	{"character-device", character_device},
	{"block-device", block_device},
	{"whiteout", whiteout},
	{"whiteout-by-rename", whiteout_by_rename},
	{"file-capability", file_capability},
	{"directory-listed", listed},
	{"directory-watched", watched},
	{"directory-notified", notified},
	{"directory-marked", marked},
	{"mapped", mapped},
	{"stat", asked},
	{"access", asked_for_access},
	{"link-text", link_text},
	{"attribute-read", attribute_read},
	{"lease", leased},
	{"core-dumped", core_dumped},
	{"core-pattern", kernel_helper},
	{"modprobe-path", kernel_modprobe},
	{"raw-disk", raw_disk},
	{"raw-memory", raw_memory},
	{},
};
