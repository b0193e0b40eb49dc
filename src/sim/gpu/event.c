#include "sim/gpu/event.h"

void sim_event_raise(struct sim_state *state, struct sim_gpu *gpu, uint64_t type, uint64_t data,
                     uint32_t gi, uint32_t ci)
{
    uint64_t sequence = state->n_events + 1;

    state->events[sequence % SIM_MAX_EVENTS] = (struct sim_event){
        .sequence = sequence,
        .gpu = (uint32_t)(gpu - state->gpus),
        .type = type,
        .data = data,
        .gi_id = gi,
        .ci_id = ci,
    };
    if (type == SIM_EVENT_XID)
        gpu->last_xid = (uint32_t)data;
    state->n_events = sequence; /* last: nobody reads an event that is half written */
    sim_state_changed(state);
}

void sim_event_gpu_lost(struct sim_state *state, struct sim_gpu *gpu)
{
    gpu->lost = true;
    sim_event_raise(state, gpu, SIM_EVENT_XID, SIM_XID_FELL_OFF_BUS, SIM_NO_INSTANCE,
                    SIM_NO_INSTANCE);
}

const struct sim_event *sim_event_next(const struct sim_state *state, uint64_t after)
{
    uint64_t newest = state->n_events;
    uint64_t oldest = newest > SIM_MAX_EVENTS ? newest - SIM_MAX_EVENTS + 1 : 1;

    if (after >= newest)
        return NULL;
    return &state->events[MAX(after + 1, oldest) % SIM_MAX_EVENTS];
}
