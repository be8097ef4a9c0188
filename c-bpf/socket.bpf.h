/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who made a socket: network.bpf.c marks it at its creation, what it accepts has the same mark, and
 * to ipc.bpf.c a peer or a descriptor of the same subject is no business of the envelope.
 */
#ifndef CARTOUCHE_SOCKET_BPF_H
#define CARTOUCHE_SOCKET_BPF_H

#include "cartouche.h"
#include "kernel.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} socket_slots SEC(".maps");

#endif
