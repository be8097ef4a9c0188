/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the kernel side and the daemon share: every limit, key, value and record, typed once.
 * bindgen reads this file; layouts are asserted on both sides. Fixed-width types only.
 */
#ifndef CARTOUCHE_H
#define CARTOUCHE_H

#include <linux/types.h>

/* Limits. A path longer than this is refused; see PATH_MAX in limits.h of the kernel. */
#define WALK_MAX 4096
/* Bytes of a path that rules can see; a rule of 255 bytes and its NUL. */
#define RULE_MAX 256
/*
 * Bytes of a key in a plan's first trie, which holds nearly all rules; longer ones lie in a second
 * one. A node of the first fits into 192 bytes, an intermediate one into 96: that is most of an
 * artifact's memory in the kernel.
 */
#define RULE_SHORT 48
/* Bytes of a file name in the claims' first filter; longer names are cut on both sides. */
#define CLAIM_NAME_MAX 60
/* Artifacts known in one boot; slot 0 is "outside". */
#define SLOTS_MAX 8192
/* Plans in force or being staged: a slot's old and new one exist side by side for a moment. */
#define PLANS_MAX 16384
/* Running subject processes that the mirror can hold. */
#define MIRROR_MAX 262144
/* Running subject processes that descriptors signal. */
#define LISTENERS_MAX 16384
/* Executables of all artifacts together. */
#define SUBJECTS_MAX 65536
/* Endpoint rules of one plan that are not one address and one port. */
#define NET_RANGES_MAX 512
/* Grants of all plans together that are neither paths nor endpoints. */
#define GRANTS_MAX (1 << 20)
/* Bytes of an artifact's id, with its NUL. */
#define ID_MAX 64
/* Bytes of a systemd unit's name, with its NUL; UNIT_NAME_MAX of systemd. */
#define UNIT_NAME_MAX 256
/* Maps and programs of Cartouche, of two generations. */
#define GUARDED_MAX 1024
/* What the names of the inner maps of plans begin with; user space names them. */
#define INNER_MAP_PREFIX "cartouche_"
/* Records one slot may put into the ring in one second; the rest is counted. */
#define EVENT_BUDGET 256
#define RING_BYTES (2 * 1024 * 1024)

/* A file as the kernel itself knows it; st_dev of user space may differ (btrfs, overlayfs). */
struct subject_key {
	__u64 ino;
	__u32 dev; /* s_dev: major << 20 | minor */
	__u32 generation;
};

/*
 * What a task is bound to. `slot` counts in the storage of the thread-group leader only; `pending`
 * and `key` in the storage of the thread that is in execve, from the decision to the new image.
 */
struct label {
	__u32 slot;		/* 0: outside */
	__u32 pending;		/* the slot that the exec under way leads to, 0: none */
	struct subject_key key; /* of the executable that `pending` came from; ino 0: inherited */
	__u32 adopted;		/* 1: bound while it ran, so its children of before are too */
	__u32 invited;		/* of a process outside: the slot that its next exec leads to */
};

/* What a process was when it made itself the owner of a descriptor. */
struct listener {
	__u64 start_time; /* of the process: its struct pid may be another's by now */
	__u32 slot;	  /* the last one */
	__u32 mixed;	  /* 1: it had another one before */
};

/* Flags of a subject. */
#define SUBJECT_SCRIPT 1u   /* starts with #!: bound to its admitted path as well */
#define SUBJECT_EXAMINED 2u /* being hashed: nobody writes to it, and it is nobody's yet */
#define SUBJECT_MEASURED 8u /* its content is compared at each exec, see struct measured_key */
#define SUBJECT_CODE 4u	    /* pinned by the slot's artifact, perhaps by more: nobody's program */

struct subject {
	__u32 slot;
	__u32 flags;
};

/* `NAME.service`, NUL-padded. */
struct unit_key {
	__u8 name[UNIT_NAME_MAX];
};

struct unit_program_key {
	struct subject_key file;
	__u32 slot;
	__u32 pad;
};

/* What is guarded. One entry; written by the daemon. */
struct guarded {
	__u64 pins_ino; /* the directory of pins */
	__u32 pins_dev;
	__u32 namespace;  /* inum of the mount namespace of PID 1 */
	__u64 start_time; /* of the daemon */
	__u32 tgid;	  /* of the daemon; 0: none */
	__u32 slot;	  /* on behalf of which refusals are told */
	__u32 on;
	__u32 pad;
};

enum guarded_kind {
	GUARDED_MAP = 0,
	GUARDED_PROGRAM = 1,
};

struct guarded_id {
	__u32 kind; /* enum guarded_kind */
	__u32 id;
};

/* A program by where it lies, whichever file that is. */
struct keeper_key {
	struct subject_key directory;
	__u8 name[64]; /* NUL-padded, cut */
};

struct claim_key {
	__u32 dev;
	__u8 path[RULE_MAX]; /* NUL-padded */
};

struct claim_name_key {
	__u32 dev;
	__u8 name[CLAIM_NAME_MAX]; /* last component, NUL-padded, cut */
};

struct claim {
	__u32 slot;
};

/* Who has a slot. For the daemon's memory only. */
struct holder {
	__u64 lost_told;     /* of slot_counts.lost, what the audit has been told */
	__u8 name[RULE_MAX]; /* an artifact's id, or file: and a file's name; NUL-padded */
};

enum slot_state {
	SLOT_UNKNOWN = 0, /* denies */
	SLOT_ADMITTED = 1,
	SLOT_REVOKED = 2,  /* denies */
	SLOT_REFUSED = 3,  /* rejected, waiting or being hashed: does not run */
	SLOT_RELEASED = 4, /* let go: its tasks are outside as long as this stands */
};

enum slot_mode {
	MODE_ENFORCE = 0,
	MODE_AUDIT = 1, /* would-deny events, nothing refused */
};

/* Powers of a plan that are one bit. */
#define PLAN_CODE_GENERATE 1u
#define PLAN_NET_ANY 2u	     /* some net:* capability: may bind port 0 */
#define PLAN_UDP 4u	     /* some udp endpoint: may create datagram sockets */
#define PLAN_EXCEPT 32u	     /* some capability carves paths out */
#define PLAN_LONG_RULES 16u  /* some path rule is longer than RULE_SHORT */
#define PLAN_PINNED_CODE 64u /* some file may be mapped for what it is */
#define PLAN_MANAGED 256u    /* of slot 0: its plan has the paths that nothing runs at unadmitted */
#define SLOT_HAD_UDP 8u	     /* of the slot: a plan had PLAN_UDP, and tasks may hold such sockets */
#define SLOT_DYING 128u	     /* of the slot: revoked, and its tasks are being ended */

/*
 * Written with one 8-byte store, so no task ever sees half of it. Slot 0 is that of the tasks
 * outside: in force while there are managed paths, which stand in its plan under RIGHT_EXEC.
 */
struct slot {
	__u8 state;  /* enum slot_state */
	__u8 mode;   /* enum slot_mode */
	__u16 flags; /* PLAN_* */
	__u32 plan;  /* index into file_rules, long_file_rules and net_ranges */
};

enum right {
	RIGHT_READ = 0,
	RIGHT_WRITE = 1,
	RIGHT_CREATE = 2,
	RIGHT_DELETE = 3,
	RIGHT_SETUID = 4,
	RIGHT_EXEC = 5,
	RIGHT_LOAD = 6,
	RIGHT_UNIX = 7,
	RIGHTS = 8,
};

/* Key of a plan's tries of paths: the bytes of the path; an exact rule includes the NUL. */
struct short_key {
	__u32 prefixlen; /* bits */
	__u8 path[RULE_SHORT];
};

struct long_key {
	__u32 prefixlen; /* bits */
	__u8 path[RULE_MAX];
};

/* In near and deep of RIGHT_EXEC, beside the number: what runs takes its own artifact's label. */
#define RULE_ARTIFACT 0x8000u

#define NODE_ANCESTOR 1u /* a rule starts here or below: cannot be renamed */

/*
 * One node: the rights of everything whose longest match it is, folded from all patterns that cover
 * it. `near`: nothing below the last component follows; `deep`: a slash follows. 0 denies, else the
 * number of the rule that allows. Counters sit beside, so a check counts without another lookup;
 * they wrap, and the daemon reads them every minute.
 */
struct file_rule {
	__u16 near[RIGHTS];
	__u16 deep[RIGHTS];
	__u8 near_mask; /* bit n: near[n] != 0 */
	__u8 deep_mask;
	__u8 exact_mask; /* bit n: near[n] comes from an exact rule (devices) */
	__u8 flags;	 /* NODE_* */
	__u8 length;	 /* bytes of the key, less one: 0 means 1 */
	__u8 pad[3];
	__u32 near_used[RIGHTS];
	__u32 deep_used[RIGHTS];
};

enum net_direction {
	NET_CONNECT = 0,
	NET_LISTEN = 1,
};

/* One address and port of one plan, in a hash shared by all. IPv4 is v4-mapped. */
struct net_key {
	__u32 plan;
	__u8 direction;
	__u8 protocol; /* IPPROTO_* */
	__u16 port;    /* host order */
	__u8 address[16];
};

/* What an entry of a hash grants: the number of the rule, and how often it allowed something. */
struct rule {
	__u64 used;
	__u32 rule;
	__u32 pad;
};

/* What one plan grants that is neither a path nor an endpoint, in a hash shared by all. */
struct grant_key {
	__u32 plan;
	__u32 operation; /* enum operation */
	__u32 value;	 /* CAP_*; family << 16 | protocol; enum target; else 0 */
};

/* A content that an executable may have, in a hash shared by all. */
struct measured_key {
	struct subject_key file;
	__u8 sha256[32];
};

/* A file that a plan lets be mapped executable, whatever its path, in a hash shared by all. */
struct code_key {
	struct subject_key file;
	__u32 plan;
	__u32 pad;
};

/* In place of a protocol: any of the family. */
#define ANY_PROTOCOL 0xffffu

/* Processes that are named by what they are to the subject. */
enum target {
	TARGET_SELF = 1,     /* its own */
	TARGET_CHILDREN = 2, /* those that its own have started, of whichever artifact */
};

/* An operation on processes of another artifact. */
struct target_key {
	__u32 plan;
	__u32 operation;       /* enum operation */
	__u8 artifact[ID_MAX]; /* its id, NUL-padded */
};

/* A network and a range of ports; scanned in order. */
struct net_range {
	__u64 used;
	__u64 address[2]; /* network order, host bits zero */
	__u64 mask[2];	  /* network order */
	__u16 port_first;
	__u16 port_last;
	__u8 direction;
	__u8 protocol; /* 0: end of the list */
	__u16 rule;
};

enum domain {
	DOMAIN_EXEC = 0,
	DOMAIN_FILE = 1,
	DOMAIN_NETWORK = 2,
	DOMAIN_IPC = 3,
	DOMAIN_PRIVILEGE = 4,
	DOMAIN_GUARD = 5,
	DOMAIN_CUT = 6,
	DOMAINS = 8,
};

/* Counted per slot whatever happens to the record: denied = seen in the ring + lost. */
struct slot_counts {
	__u64 denied[DOMAINS];
	__u64 would_deny[DOMAINS];
	__u64 lost;	       /* ring full or budget spent */
	__u64 window;	       /* the second (boot time) that `spent` belongs to */
	__u64 spent;	       /* records in it, by the subject's own tasks */
	__u64 strangers_spent; /* by others: they must not use up what the subject's acts need */
	__u64 silent; /* denied, and deliberately no record: the kernel asked with "no audit" */
};

enum verdict {
	VERDICT_DENIED = 0,
	VERDICT_WOULD_DENY = 1,
};

/* What was tried. The first RIGHTS values are enum right. */
enum operation {
	OP_CODE_GENERATE = 8,
	OP_NET_CONNECT = 9,
	OP_NET_LISTEN = 10,
	OP_NET_SOCKET = 11,
	OP_IPC_RECEIVE = 12,
	OP_SIGNAL = 13,
	OP_TRACE = 14,
	OP_LINUX_CAPABILITY = 15,
	OP_NAMESPACE = 16,
	OP_PERF = 17,
	OP_KEYRING = 18,
	OP_IO_URING = 19,
	OP_MOUNT = 20,
	OP_BPF = 21,
	OP_MODULE = 22,
	OP_DEVICE_NODE = 23,
	OP_USERFAULTFD = 24,
	OP_TERMINAL_INJECT = 25,
	OP_LABEL = 26,	 /* a change of label that is refused */
	OP_CLAIMED = 27, /* running a claimed path whose content is not admitted */
	OP_PINNED = 28,	 /* writing an admitted executable, or pinned code */
	OP_MOVE = 29,	 /* a rename or link that would widen */
	OP_FORK = 30,
	OP_GUARD = 31,	    /* something of Cartouche's own, by a task outside */
	OP_HELD = 32,	    /* using what was opened before its rights ended */
	OP_IPC_OBJECT = 33, /* System V IPC or a POSIX message queue that others have made */
	OPERATIONS = 34,
};

/* Why, beyond "no rule". */
enum reason {
	REASON_NO_RULE = 0,
	REASON_REVOKED = 1,
	REASON_UNKNOWN_SLOT = 2, /* also: labelled, but the label could not be read */
	REASON_UNNAMEABLE = 3,	 /* no path: deleted, disconnected, detached mount, too long */
	REASON_RACE = 4,	 /* the tree kept changing while it was walked */
	REASON_NEVER = 5,	 /* never grantable, or no domain enforces it yet */
	REASON_MEMORY = 6,
	REASON_REFUSED = 7, /* the artifact is rejected or waiting */
	REASON_CONTENT = 8, /* the content at a claimed path is not the admitted one */
	REASON_WIDENS = 9,
	REASON_UNSAFE = 10,	 /* traced by or sharing with a subject */
	REASON_SCRIPT_PATH = 11, /* a script under another name than its admitted path */
	REASON_NO_ARTIFACT = 12, /* should take its own artifact's label, and has none */
	REASON_GUARDED = 13,	 /* Cartouche's own, and nobody's to touch */
	REASON_MANAGED = 14,	 /* nothing runs there that no artifact admits */
	REASON_BY_LOADER = 15,	 /* an admitted program, mapped by a task outside */
};

enum object_kind {
	OBJECT_NONE = 0,
	OBJECT_PATH = 1, /* text, object_length bytes, cut at RULE_MAX */
	OBJECT_ENDPOINT = 2,
	OBJECT_NUMBER = 3,  /* CAP_*, kind of socket: see the operation */
	OBJECT_PROCESS = 4, /* number is its tgid, `other` its slot */
};

struct event {
	__u64 time; /* ns since boot, CLOCK_BOOTTIME */
	__u32 slot;
	__u32 pid;
	__u32 tgid;
	__u32 uid;
	__u16 operation;  /* enum right or enum operation */
	__u8 domain;	  /* enum domain */
	__u8 verdict;	  /* enum verdict */
	__u8 reason;	  /* enum reason */
	__u8 object_kind; /* enum object_kind */
	__u8 protocol;
	__u8 pad;
	__u32 object_length; /* bytes of the whole text, may exceed what is here */
	__u32 exe_length;
	__u32 number;
	__u32 other; /* slot of the process that the act was aimed at, 0: outside */
	__u16 port;
	__u16 kind; /* of a socket: SOCK_* */
	__u8 address[16];
	__u8 comm[16];
	__u8 object[RULE_MAX];
	__u8 exe[RULE_MAX];
};

/* A thread of a process that is bound to a slot: see the program `list_bound`. */
struct bound_task {
	__u32 slot;
	__u32 tgid;
};

/* What a descriptor is, told by the kernel: see the program `identify`. */
struct identity {
	struct subject_key key;
	__u64 magic;   /* s_magic of its file system */
	__s32 writers; /* i_writecount: > 0 while someone has it open for writing */
	__s32 error;   /* 0, or a negative errno: no such descriptor, no path */
	__u32 length;  /* bytes of the path */
	__u32 pad;
	__u8 path[WALK_MAX];
};

_Static_assert(sizeof(struct slot) == 8, "a slot is swapped with one store");
_Static_assert(sizeof(struct subject_key) == 16, "no padding in a key");
_Static_assert(sizeof(struct unit_program_key) == 24, "no padding in a key");
_Static_assert(sizeof(struct claim_key) == 4 + RULE_MAX, "no padding in a key");
_Static_assert(sizeof(struct net_key) == 24, "no padding in a key");
_Static_assert(sizeof(struct grant_key) == 12, "no padding in a key");
_Static_assert(sizeof(struct code_key) == 24, "no padding in a key");
_Static_assert(sizeof(struct measured_key) == 48, "no padding in a key");
_Static_assert(sizeof(struct target_key) == 8 + ID_MAX, "no padding in a key");
_Static_assert(sizeof(struct short_key) == 4 + RULE_SHORT, "no padding in a key");
_Static_assert(sizeof(struct long_key) == 4 + RULE_MAX, "no padding in a key");

#endif
