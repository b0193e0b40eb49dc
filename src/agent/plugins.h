/*
 * The plugin servers of a node, kept equal to the view that is shown: a resource that appears is
 * served and registered, one that disappears is withdrawn, one that stays gets its new list and
 * never blinks.
 *
 * A resource that is shared by MPS is served only once its control daemon answers
 * (spec/device-plugin §7.5); until then it is asked again and again, beside the loop.
 *
 * Speaks to the log: this is the agent's hand.
 */
#pragma once

#include "agent/view.h"
#include "base/base.h"
#include "base/err.h"
#include "net/loop.h"

struct plugins;

struct plugins_options {
    const char *dir;            /* where the sockets go */
    const char *kubelet_socket; /* "": do not register */
    const char *mps_root;       /* as this process sees it: "/mps" */
    /* Something may have settled: look at plugins_settled. May be NULL. */
    void (*changed)(void *user);
    void *user;
};

/* Strings are copied. */
[[nodiscard]] int plugins_new(struct loop *loop, const struct plugins_options *options,
                              struct plugins **ret, struct err *err);
/* At once, without goodbye. */
void plugins_free(struct plugins *plugins);
DEFINE_FREEP(struct plugins, plugins_free)

/* Takes the view over; it is what every call is answered from, until the next one. */
void plugins_show(struct plugins *plugins, struct view *view);
/* What is shown; NULL before the first. May be outdated (view_outdate), then plugins_refresh. */
struct view *plugins_view(const struct plugins *plugins);
void plugins_refresh(struct plugins *plugins);

/* Withdraws everything, ends the streams, removes the sockets; `stopped` comes from the loop. */
void plugins_stop(struct plugins *plugins, void (*stopped)(void *user), void *user);

/* For whoever watches the directory. */
void plugins_kubelet_created(struct plugins *plugins);
void plugins_check_sockets(struct plugins *plugins);

/* Nothing is under way: everything is registered, or waits to try again. */
bool plugins_settled(const struct plugins *plugins);

/* How the server of a resource is doing, as a word ("registered", "waiting for MPS"); NULL when
 * there is none. */
const char *plugins_state(const struct plugins *plugins, const char *resource);
