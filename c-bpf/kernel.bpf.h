/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's types, as far as these programs read them. Hand-written: CO-RE relocates every
 * access against the running kernel's BTF, so neither a generated header nor BTF of the build host
 * is needed.
 */
#ifndef CARTOUCHE_KERNEL_BPF_H
#define CARTOUCHE_KERNEL_BPF_H

#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

typedef _Bool bool;
#define true 1
#define false 0
#ifndef NULL
#define NULL ((void *)0)
#endif

/* include/uapi/linux/magic.h */
#define OVERLAYFS_SUPER_MAGIC 0x794c7630
#define PROC_SUPER_MAGIC 0x9fa0
#define EXT4_SUPER_MAGIC 0xef53
#define F2FS_SUPER_MAGIC 0xf2f52010
#define TMPFS_MAGIC 0x01021994
#define HUGETLBFS_MAGIC 0x958458f6
#define SOCKFS_MAGIC 0x534f434b
#define PIPEFS_MAGIC 0x50495045
#define BPF_FS_MAGIC 0xcafe4a11
#define ANON_INODE_FS_MAGIC 0x09041934
/* linux/fs.h: the kernel mounted it for itself */
#define SB_KERNMOUNT (1ul << 22)
/* include/uapi/asm-generic/fcntl.h */
#define O_TMPFILE_BIT 020000000
#define O_ASYNC 020000
#define F_SETFL 4
#define F_SETOWN 8
#define F_SETSIG 10
#define F_SETOWN_EX 15
#define F_WRLCK 1
#define F_UNLCK 2
#define F_SETLEASE 1024
#define F_NOTIFY 1026
/* include/linux/mount.h */
#define MNT_SHARED 0x1000
/* include/linux/fs.h */
#define FMODE_READ 0x1
#define FMODE_WRITE 0x2
#define FMODE_PATH 0x4000
#define FMODE_EXEC_FLAG 0x20
#define FMODE_CREATED 0x100000
#define ATTR_SIZE (1 << 3)
#define ATTR_FORCE (1 << 9)
/* MODE UID GID SIZE KILL_SUID KILL_SGID: each has a path hook of its own */
#define ATTR_ELSEWHERE (1 | 2 | 4 | ATTR_SIZE | (1 << 11) | (1 << 12))
/* include/uapi/linux/stat.h */
#define S_IFMT 00170000
#define S_IFDIR 0040000
#define S_IFCHR 0020000
#define S_IFBLK 0060000
#define S_IFREG 0100000
#define S_ISUGID 0006000
/* include/linux/dcache.h: bytes of a name in the dentry itself, on kernels with the fewest */
#define DNAME_INLINE_MIN 32
/* include/uapi/linux/fs.h, fsverity.h, asm-generic/ioctls.h, sockios.h */
#define FS_IOC_SETFLAGS 0x40086602
#define FS_IOC32_SETFLAGS 0x40046602
#define FS_IOC_FSSETXATTR 0x401c5820
#define FS_IOC_ENABLE_VERITY 0x40806685
#define FS_IOC_SETVERSION 0x40087602
#define EXT4_IOC_SETVERSION 0x40086604
#define FS_IOC32_SETVERSION 0x40047602
#define EXT4_IOC32_SETVERSION 0x40046604
#define FS_IOC_SET_ENCRYPTION_POLICY 0x800c6613
/* include/uapi/linux/btrfs.h: type and number of a command, whatever the size of its argument */
#define IOC_TYPE_AND_NUMBER 0xffff
#define BTRFS_SNAP_CREATE 0x9401
#define BTRFS_SUBVOL_CREATE 0x940e
#define BTRFS_SNAP_DESTROY 0x940f
#define BTRFS_SNAP_CREATE_V2 0x9417
#define BTRFS_SUBVOL_CREATE_V2 0x9418
#define BTRFS_SNAP_DESTROY_V2 0x943f
#define BTRFS_SUBVOL_SETFLAGS 0x941a
#define BTRFS_SET_RECEIVED_SUBVOL 0x9425
/* include/uapi/linux/msdos_fs.h */
#define FAT_IOCTL_SET_ATTRIBUTES 0x40047211
#define TIOCSTI 0x5412
#define TIOCLINUX 0x541c
#define FIOASYNC 0x5452
#define FIOSETOWN 0x8901
#define SIOCSPGRP 0x8902
/* include/uapi/linux/fs.h */
#define RENAME_EXCHANGE (1 << 1)
#define RENAME_WHITEOUT (1 << 2)
/* include/uapi/asm-generic/mman-common.h, include/linux/mm.h */
#define PROT_WRITE 0x2
#define PROT_EXEC 0x4
#define MAP_PRIVATE 0x2
#define VM_EXEC 0x4
#define READ_IMPLIES_EXEC 0x0400000
#define PER_CLEAR_ON_SETID (READ_IMPLIES_EXEC | 0x0040000 | 0x0200000 | 0x0100000)
/* kernel/exec_domain.c: changes nothing */
#define PERSONALITY_ASK 0xffffffff
/* include/uapi/linux/sched.h, include/linux/binfmts.h */
#define CLONE_THREAD 0x00010000
#define PF_IO_WORKER 0x00000010
#define PF_FORKNOEXEC 0x00000040
#define CLONE_INTO_CGROUP 0x200000000ull
#define LSM_UNSAFE_SHARE 1
#define LSM_UNSAFE_PTRACE 2
#define LSM_UNSAFE_NO_NEW_PRIVS 4
/* include/linux/socket.h, include/uapi/linux/in.h */
#define AF_UNSPEC 0
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_MPTCP 262
#define SOL_IP 0
#define SOL_IPV6 41
#define IP_OPTIONS 4
#define IP_RETOPTS 7
#define IPV6_2292RTHDR 5
#define IPV6_2292PKTOPTIONS 6
#define IPV6_FLOWLABEL_MGR 32
#define IPV6_RTHDR 57
/* include/linux/security.h, ptrace.h */
#define CAP_OPT_NOAUDIT 2
#define PTRACE_MODE_ATTACH 0x02
#define PTRACE_MODE_NOAUDIT 0x04
#define SIGHUP 1
#define SIGKILL 9
#define SIGCHLD 17
#define SIGCONT 18
/* include/uapi/linux/capability.h */
#define CAP_DAC_OVERRIDE 1
#define CAP_DAC_READ_SEARCH 2
#define CAP_SYS_MODULE 16
#define CAP_SYS_RAWIO 17
#define CAP_SYS_PTRACE 19
#define CAP_SYS_ADMIN 21
#define CAP_MKNOD 27
#define CAP_MAC_OVERRIDE 32
#define CAP_MAC_ADMIN 33
#define CAP_BPF 39
#define CAP_CHECKPOINT_RESTORE 40

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct qstr {
	__u64 hash_len; /* length in the upper half (little endian) */
	const unsigned char *name;
};

struct hlist_bl_node {
	struct hlist_bl_node **pprev;
};

struct list_head {
	struct list_head *next;
};

struct super_block {
	unsigned long s_flags;
	__u32 s_dev;
	unsigned long s_magic;
	struct dentry *s_root;
	struct list_head s_mounts;
};

typedef struct {
	int counter;
} atomic_t;

struct inode {
	__u16 i_mode;
	unsigned int i_flags;
	struct super_block *i_sb;
	unsigned long i_ino;
	__u32 i_generation;
	atomic_t i_writecount;
};

/* include/linux/seqlock.h */
struct seqcount {
	unsigned int sequence;
};

/* include/linux/xarray.h: a node's slots lead to nodes, marked by a 2, or to what is stored */
struct xarray {
	void *xa_head;
};

struct xa_node {
	unsigned char shift;
	void *slots[64];
};

/* include/linux/idr.h */
struct idr {
	struct xarray idr_rt;
};

/* include/linux/pid_namespace.h */
struct pid_namespace {
	struct idr idr;
};

/* include/linux/types.h */
struct hlist_node {
	struct hlist_node *next;
	struct hlist_node **pprev;
};

struct hlist_head {
	struct hlist_node *first;
};

/* include/linux/pid_types.h */
enum pid_type {
	PIDTYPE_PID,
	PIDTYPE_TGID,
	PIDTYPE_PGID,
	PIDTYPE_SID,
	PIDTYPE_MAX,
};

/* include/linux/pid.h: one number for each namespace, the innermost at `level` */
struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct hlist_head tasks[PIDTYPE_MAX];
	struct upid numbers[1];
};

/* fs/proc/internal.h */
struct proc_inode {
	struct pid *pid;
	struct inode vfs_inode;
};

struct dentry {
	unsigned int d_flags;
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	unsigned char d_iname[DNAME_INLINE_MIN]; /* longer on newer kernels */
	struct super_block *d_sb;
};

struct vfsmount {
	struct dentry *mnt_root;
	struct super_block *mnt_sb;
	int mnt_flags;
};

struct ns_common {
	unsigned int inum;
};

struct mnt_namespace {
	struct ns_common ns;
};

/* include/linux/bpf.h */
struct bpf_map {
	__u32 id;
	char name[16]; /* BPF_OBJ_NAME_LEN */
};

struct bpf_prog_aux {
	__u32 id;
};

struct bpf_prog {
	struct bpf_prog_aux *aux;
};

struct bpf_link {
	struct bpf_prog *prog;
};

/* fs/mount.h */
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	struct list_head mnt_instance; /* in s_mounts of its super block */
	struct mnt_namespace *mnt_ns;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

/* include/linux/fs.h: whom an open file signals */
struct fown_struct {
	struct file *file; /* since 6.12 */
	struct pid *pid;
	enum pid_type pid_type;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
	unsigned int f_flags;
	unsigned int f_mode;
	struct fown_struct *f_owner;
	void *private_data;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct iattr {
	unsigned int ia_valid;
};

struct mm_struct {
	struct file *exe_file;
	unsigned long arg_start;
};

struct vm_area_struct {
	unsigned long vm_flags;
	struct file *vm_file;
	void *anon_vma;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
};

struct signal_struct {
	struct pid *pids[PIDTYPE_MAX];
};

struct bpf_local_storage;

/* include/linux/cred.h */
struct cred {
	int non_rcu; /* 1: made for the length of access(2) */
};

/* include/linux/fs_struct.h */
struct fs_struct {
	struct path root;
};

/* include/linux/kernfs.h, cgroup-defs.h */
struct kernfs_node {
	struct kernfs_node *parent;
	const char *name;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp; /* in the unified hierarchy */
};

/* arch/x86/include/asm/thread_info.h */
struct thread_info {
	__u32 status;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	int pid;
	int tgid;
	__u64 start_time;
	int exit_state; /* not 0: has ended, and is nothing but a number any more */
	unsigned int personality;
	unsigned int in_execve : 1;
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	struct task_struct *parent;
	unsigned int ptrace;
	struct mm_struct *mm;
	struct fs_struct *fs;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	void *io_uring; /* NULL: has never used a ring */
	struct css_set *cgroups;
	struct hlist_node pid_links[PIDTYPE_MAX];
	const struct cred *real_cred;
	const struct cred *cred;
	struct bpf_local_storage *bpf_storage;
	char comm[16];
};

/* arch/x86/include/asm/ptrace.h: first arguments of a 64-bit and of a 32-bit system call */
struct pt_regs {
	unsigned long bx;
	unsigned long di;
	unsigned long orig_ax; /* the system call's number */
};

struct linux_binprm {
	struct file *file;
	int unsafe;
	const char *filename;
	const char *interp;
};

struct in6_addr {
	__u8 bytes[16];
};

struct sock_common {
	unsigned short skc_family;
	__u16 skc_num;
	__u32 skc_rcv_saddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
	__u16 sk_type;
};

struct socket {
	struct sock *sk;
};

/* include/net/af_unix.h, include/uapi/linux/un.h */
struct sockaddr_un {
	__u16 sun_family;
	char sun_path[108];
};

struct unix_address {
	int len; /* of name, with its family */
	struct sockaddr_un name[];
};

struct unix_sock {
	struct sock sk;
	struct unix_address *addr;
	struct path path; /* of a socket that is bound to one */
};

/* include/linux/ipc.h: what shared memory, semaphores and message queues of System V begin with */
struct kern_ipc_perm {
	int id;
};

/* what sendmsg() was given, copied into the kernel */
struct msghdr {
	void *msg_control;
	unsigned long msg_controllen;
};

struct socket_alloc {
	struct socket socket;
	struct inode vfs_inode;
};

struct sockaddr {
	__u16 sa_family;
};

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

/* since 6.3; a mere declaration would match no type of the kernel's */
struct mnt_idmap {
};

/* include/linux/user_namespace.h */
struct user_namespace {
	int level; /* 0: the first one */
};

struct net;
struct kernel_siginfo;
struct key;
struct rlimit;

#pragma clang attribute pop

/*
 * A kernel pointer as a number, for functions that the verifier checks alone (they take no BTF
 * pointers). A cast is not enough: the verifier tracks the register, not the C type.
 */
static __always_inline __u64 address_of(const void *pointer)
{
	__u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), &pointer);
	return address;
}

/* Both halves of a struct path at once. */
struct location {
	__u64 mount; /* vfsmount */
	__u64 dentry;
};

static __always_inline struct location location_of(const struct path *path)
{
	struct location location = {};

	bpf_probe_read_kernel(&location, sizeof(location), path);
	return location;
}

#endif
