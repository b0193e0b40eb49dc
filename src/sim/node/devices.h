/*
 * The books of a stand-in kubelet's device manager: which devices each resource has, who holds
 * which, and what a container's request comes to. No socket and no clock here.
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"
#include "base/map.h"
#include "base/text.h"
#include "kubelet/messages.h"
#include "sim/node/kubelet.h"

/* One resource: the newest list of its plugin. */
struct device_book {
    char *resource;     /* owned */
    bool known;         /* has been listed, now or before a restart, and is not forgotten */
    bool alive;         /* its plugin is connected: its devices can be allocated */
    bool listed;        /* a list has arrived since the last registration */
    bool gone;          /* away for so long that the capacity is zero, too */
    struct arena arena; /* owns the list */
    struct device_list list;
};

/* A device and its NUMA node, -1 for none. A device of two nodes has two places. */
struct device_place {
    const char *id;
    int64_t node;
};

/* What one container holds of one resource. */
struct device_grant {
    struct sim_grant grant; /* strings owned by the arena below */
    size_t n_places;
    struct device_place *places; /* of the ids, as they were when they were given away */
    struct arena arena;
    bool reusable; /* held by an init container: later containers of its pod take it over */
    struct device_grant *next;
};

struct device_books {
    size_t n_books, n_capacity;
    struct device_book books[SIM_KUBELET_MAX_RESOURCES];
    struct sim_capacity capacity[SIM_KUBELET_MAX_RESOURCES]; /* by name; made on demand */
    struct device_grant *grants, *last_grant;                /* owned; in order of allocation */
    struct map ended; /* pods whose grants are freed before the next admission */
};

void device_books_done(struct device_books *books);

struct device_book *device_book_find(struct device_books *books, const char *resource);
/* Finds or makes; -E2BIG above the ceiling, -ENOMEM. */
[[nodiscard]] int device_book_open(struct device_books *books, const char *resource,
                                   struct device_book **ret, struct err *err);
/* Replaces the list by the decoded message. */
[[nodiscard]] int device_book_update(struct device_book *book, struct span message,
                                     struct err *err);
/* The plugin is away: every device is unhealthy; later, its capacity is forgotten. */
void device_book_lost(struct device_book *book);
void device_book_forget(struct device_book *book);

const struct sim_capacity *device_books_capacity(struct device_books *books, size_t *ret_n);

/* Frees what ended pods held. */
void device_books_collect(struct device_books *books);

/*
 * What a request comes to, before the plugin is asked:
 * the devices that must be in it (taken over from the pod's init containers), and those that are
 * free. `available` includes the must-haves, as the kubelet sends them.
 */
struct device_choice {
    bool nothing_to_do; /* not a plugin's resource, or the container holds its devices already */
    bool settled;       /* `must` is the whole answer: the plugin has no say */
    uint32_t size;
    struct id_list must, available;
};

/* -EBUSY and friends with the kubelet's own sentence when it cannot be. All in the arena. */
[[nodiscard]] int device_books_choose(struct device_books *books, const struct sim_pod *pod,
                                      const struct sim_container *container,
                                      const struct sim_request *request, struct arena *arena,
                                      struct device_choice *ret, struct err *err);

/* The final ids: the plugin's preference as far as it is available, filled up from the rest.
 * `preferred` may be NULL. */
[[nodiscard]] int device_choice_finish(const struct device_choice *choice,
                                       const struct id_list *preferred, struct arena *arena,
                                       struct id_list *ret, struct err *err);

/* Writes down what was given away; everything is copied. */
[[nodiscard]] int device_books_grant(struct device_books *books, const char *pod_uid,
                                     const struct sim_container *container, const char *resource,
                                     const struct id_list *ids, struct span response,
                                     struct err *err);
/* The same from an older kubelet's notes. */
[[nodiscard]] int device_books_restore(struct device_books *books, const char *pod_uid,
                                       const char *container, const char *resource,
                                       const struct device_place *places, size_t n_places,
                                       struct span response, struct err *err);

/* How many devices of a resource running pods hold, for the kubelet's last check. */
uint32_t device_books_held(const struct device_books *books, const char *resource);
