/*
 * The node's events: a ring in the shared state that any process may raise into and any number of
 * readers follow, each at its own pace. A reader that falls more than the ring's length behind
 * loses the oldest, as with the driver.
 *
 * The caller holds the state's lock.
 */
#pragma once

#include "base/base.h"
#include "sim/gpu/state.h"

/* In sim_event.type: an event of the node (a GPU bound or unbound), not of a GPU's own. */
#define SIM_EVENT_SYSTEM (1ull << 63)

enum {
    SIM_EVENT_XID = 0x8,          /* data: the Xid */
    SIM_EVENT_MIG_CONFIG = 0x100, /* data: 0 */
    SIM_XID_FELL_OFF_BUS = 79,
};

/*
 * Adds an event and wakes everyone who waits. `type` is one of NVML's event bits (spec/nvml §6),
 * gi and ci SIM_NO_INSTANCE unless it belongs to a MIG device. An Xid is also noted in last_xid.
 */
void sim_event_raise(struct sim_state *state, struct sim_gpu *gpu, uint64_t type, uint64_t data,
                     uint32_t gi, uint32_t ci);

/* The GPU falls off the bus: from here on it is lost, and those who watch it see Xid 79. */
void sim_event_gpu_lost(struct sim_state *state, struct sim_gpu *gpu);

/* The oldest event after sequence number `after`, or NULL. */
const struct sim_event *sim_event_next(const struct sim_state *state, uint64_t after);
