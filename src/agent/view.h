/*
 * What this node offers at one moment: an inventory, a configuration, and the resources that follow
 * from the two. Everything that answers the kubelet reads one view, so no answer mixes old and new.
 */
#pragma once

#include "agent/reload.h"
#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"
#include "kubelet/messages.h"
#include "share/inventory.h"
#include "share/resource.h"

struct view {
    struct arena arena; /* owns the set */
    struct loaded *loaded;
    struct inventory *inventory;
    struct resource_set *set;
    struct inventory *newest; /* what the node looks like by now, when it no longer fits; or NULL */
};

/* Takes references. Fails as resource_build does. */
[[nodiscard]] int view_new(struct loaded *loaded, struct inventory *inventory, struct view **ret,
                           struct err *err);
void view_free(struct view *view);
DEFINE_FREEP(struct view, view_free)

/* The node has changed into something that no set of resources can be made of (in the middle of a
 * MIG change, say): the view stays, and devices that `newest` does not show any more, or shows in
 * another state, count as unhealthy. */
void view_outdate(struct view *view, struct inventory *newest);

/* What the kubelet is to see of a resource, in the arena; strings are the view's. -ENOMEM. */
[[nodiscard]] int view_list(const struct view *view, const struct resource *resource,
                            struct arena *arena, struct device_list *ret, struct err *err);
