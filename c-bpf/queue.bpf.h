/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * POSIX message queues that a thread has just made: sysv.bpf.c notes them as they come to be, and
 * file.bpf.c, which sees the open that follows within the same mq_open(), marks them as its
 * subject's. By a path in a mounted mqueue file system they are files like others.
 */
#ifndef CARTOUCHE_QUEUE_BPF_H
#define CARTOUCHE_QUEUE_BPF_H

#include "cartouche.h"
#include "kernel.bpf.h"

/* include/uapi/linux/magic.h */
#define MQUEUE_MAGIC 0x19800202

struct made_queue {
	__u64 ino;
	__u64 start_time; /* of the thread: its address may be another's later */
};

/* By the address of the thread's task_struct. What is forgotten too early is refused its maker. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct made_queue);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} made_queues SEC(".maps");

#endif
