#include "sim/node/devices.h"

#include <errno.h>
#include <string.h>

static bool is_healthy(const struct listed_device *device)
{
    return text_equal(device->health, PLUGIN_HEALTHY);
}

static void grant_free(struct device_grant *grant)
{
    arena_done(&grant->arena);
    free(grant);
}

void device_books_done(struct device_books *books)
{
    for (size_t i = 0; i < books->n_books; i++) {
        free(books->books[i].resource);
        arena_done(&books->books[i].arena);
    }
    while (books->grants) {
        struct device_grant *next = books->grants->next;

        grant_free(books->grants);
        books->grants = next;
    }
    map_done(&books->ended);
}

struct device_book *device_book_find(struct device_books *books, const char *resource)
{
    for (size_t i = 0; i < books->n_books; i++)
        if (text_equal(books->books[i].resource, resource))
            return &books->books[i];
    return NULL;
}

int device_book_open(struct device_books *books, const char *resource, struct device_book **ret,
                     struct err *err)
{
    struct device_book *book = device_book_find(books, resource);

    if (!book) {
        if (books->n_books == SIM_KUBELET_MAX_RESOURCES)
            return err_set(err, E2BIG, "more than %d resources", SIM_KUBELET_MAX_RESOURCES);
        char *name = strdup(resource);
        if (!name)
            return err_no_memory(err);
        book = &books->books[books->n_books++];
        *book = (struct device_book){ .resource = name, .arena = ARENA_MAX(MESSAGE_ARENA_BYTES) };
    }
    *ret = book;
    return 0;
}

int device_book_update(struct device_book *book, struct span message, struct err *err)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MESSAGE_ARENA_BYTES);
    struct device_list list;
    int r = device_list_decode(message, &arena, &list, err);

    if (r < 0)
        return err_wrap(err, r, "device list of %s", book->resource);
    arena_done(&book->arena);
    book->arena = arena;
    arena = ARENA_MAX(0);
    book->list = list;
    book->known = true;
    book->listed = true;
    book->gone = false;
    return 0;
}

void device_book_lost(struct device_book *book)
{
    book->alive = false;
    book->listed = false;
}

void device_book_forget(struct device_book *book)
{
    arena_done(&book->arena);
    book->arena = ARENA_MAX(MESSAGE_ARENA_BYTES);
    book->list = (struct device_list){};
    book->known = false;
    book->gone = true;
}

static int by_resource(const void *a, const void *b)
{
    const struct sim_capacity *left = a, *right = b;

    return strcmp(left->resource, right->resource);
}

/* A resource counts from its first list on. It never disappears again: the node's status keeps a
 * forgotten one as zero. */
const struct sim_capacity *device_books_capacity(struct device_books *books, size_t *ret_n)
{
    books->n_capacity = 0;
    for (size_t i = 0; i < books->n_books; i++) {
        const struct device_book *book = &books->books[i];
        struct sim_capacity *line = &books->capacity[books->n_capacity];

        if (!book->known && !book->gone)
            continue;
        *line = (struct sim_capacity){ .resource = book->resource, .capacity = book->list.n };
        for (size_t d = 0; book->alive && d < book->list.n; d++)
            line->allocatable += is_healthy(&book->list.items[d]);
        books->n_capacity++;
    }
    qsort(books->capacity, books->n_capacity, sizeof(books->capacity[0]), by_resource);
    *ret_n = books->n_capacity;
    return books->capacity;
}

void device_books_collect(struct device_books *books)
{
    struct device_grant **link = &books->grants;

    books->last_grant = NULL;
    while (*link) {
        struct device_grant *grant = *link;

        if (map_has(&books->ended, grant->grant.pod_uid)) {
            *link = grant->next;
            grant_free(grant);
        } else {
            books->last_grant = grant;
            link = &grant->next;
        }
    }
    map_done(&books->ended);
    books->ended = (struct map){};
}

static struct device_grant *grant_find(struct device_books *books, const char *uid,
                                       const char *container, const char *resource)
{
    for (struct device_grant *grant = books->grants; grant; grant = grant->next)
        if (text_equal(grant->grant.pod_uid, uid) &&
            text_equal(grant->grant.container, container) &&
            text_equal(grant->grant.resource, resource))
            return grant;
    return NULL;
}

static bool is_granted(const struct device_books *books, const char *resource)
{
    for (const struct device_grant *grant = books->grants; grant; grant = grant->next)
        if (text_equal(grant->grant.resource, resource))
            return true;
    return false;
}

/* Marks every id that a grant holds; those of the pod's own init containers go to `reusable`. */
static int mark_held(struct device_books *books, const char *uid, const char *resource,
                     struct map *held, struct map *reusable)
{
    for (struct device_grant *grant = books->grants; grant; grant = grant->next) {
        bool own = grant->reusable && text_equal(grant->grant.pod_uid, uid);

        if (!text_equal(grant->grant.resource, resource))
            continue;
        for (size_t i = 0; i < grant->grant.n_ids; i++) {
            int r = map_set(held, grant->grant.ids[i], grant);
            if (r == 0 && own)
                r = map_set(reusable, grant->grant.ids[i], grant);
            if (r < 0)
                return r;
        }
    }
    /* What a main container took over is not there for the next one. */
    for (struct device_grant *grant = books->grants; grant; grant = grant->next)
        if (!grant->reusable && text_equal(grant->grant.pod_uid, uid) &&
            text_equal(grant->grant.resource, resource))
            for (size_t i = 0; i < grant->grant.n_ids; i++)
                map_remove(reusable, grant->grant.ids[i]);
    return 0;
}

static int add_id(struct arena *arena, struct id_list *list, size_t max, const char *id)
{
    if (!list->items)
        list->items = arena_new_array(arena, const char *, MAX(max, 1));
    if (!list->items)
        return -ENOMEM;
    list->items[list->n++] = id;
    return 0;
}

int device_books_choose(struct device_books *books, const struct sim_pod *pod,
                        const struct sim_container *container, const struct sim_request *request,
                        struct arena *arena, struct device_choice *ret, struct err *err)
{
    struct device_choice choice = { .size = request->count };
    const struct device_book *book = device_book_find(books, request->resource);
    const struct device_grant *own =
        grant_find(books, pod->uid, container->name, request->resource);
    auto_(map_done) struct map held = {}, reusable = {}, healthy = {};
    uint32_t n_free = 0;

    /* A resource that no plugin offers and no container holds is no business of the device
     * manager. */
    if (!book || (!book->known && !is_granted(books, request->resource))) {
        ret->nothing_to_do = true;
        return 0;
    }
    if (!book->known)
        return err_set(err, ENODEV, "cannot allocate unregistered device %s", request->resource);
    for (size_t i = 0; book->alive && i < book->list.n; i++)
        if (is_healthy(&book->list.items[i]) &&
            map_set(&healthy, book->list.items[i].id, books) < 0)
            return err_no_memory(err);
    if (healthy.n_live == 0)
        return err_set(err, ENODEV,
                       "no healthy devices present; cannot allocate unhealthy devices %s",
                       request->resource);
    /* A pod that comes again, after the machine was off: it gets what it had, or nothing. */
    for (size_t i = 0; own && i < own->grant.n_ids; i++)
        if (!map_has(&healthy, own->grant.ids[i]))
            return err_set(err, ENODEV,
                           "previously allocated devices are no longer healthy; cannot allocate "
                           "unhealthy devices %s",
                           request->resource);
    if (own || request->count == 0) {
        ret->nothing_to_do = true;
        return 0;
    }
    if (mark_held(books, pod->uid, request->resource, &held, &reusable) < 0)
        return err_no_memory(err);

    size_t max = book->list.n;
    struct map_entry *entry;
    for (size_t i = 0; choice.must.n < request->count && (entry = map_next(&reusable, &i));)
        if (add_id(arena, &choice.must, max, arena_strdup(arena, entry->key)) < 0)
            return err_no_memory(err);
    choice.settled = choice.must.n == request->count;
    for (size_t i = 0; i < choice.must.n; i++)
        if (add_id(arena, &choice.available, 2 * max, choice.must.items[i]) < 0)
            return err_no_memory(err);
    for (size_t i = 0; i < book->list.n; i++) {
        const struct listed_device *device = &book->list.items[i];

        if (!is_healthy(device) || map_has(&held, device->id))
            continue;
        n_free++;
        if (add_id(arena, &choice.available, 2 * max, device->id) < 0)
            return err_no_memory(err);
    }
    if (n_free < request->count - choice.must.n)
        return err_set(
            err, EBUSY,
            "requested number of devices unavailable for %s. Requested: %zu, Available: %u",
            request->resource, request->count - choice.must.n, n_free);
    *ret = choice;
    return 0;
}

int device_choice_finish(const struct device_choice *choice, const struct id_list *preferred,
                         struct arena *arena, struct id_list *ret, struct err *err)
{
    struct id_list chosen = {};
    auto_(map_done) struct map open = {}, taken = {};
    const struct id_list *sources[] = { &choice->must, preferred, &choice->available };

    for (size_t i = 0; i < choice->available.n; i++)
        if (map_set(&open, choice->available.items[i], (void *)choice) < 0)
            return err_no_memory(err);
    for (size_t s = 0; s < ARRAY_LEN(sources); s++)
        for (size_t i = 0; sources[s] && i < sources[s]->n && chosen.n < choice->size; i++) {
            const char *id = sources[s]->items[i];

            if (!map_has(&open, id) || map_has(&taken, id))
                continue;
            if (map_set(&taken, id, (void *)choice) < 0 ||
                add_id(arena, &chosen, choice->size, id) < 0)
                return err_no_memory(err);
        }
    *ret = chosen;
    return 0;
}

/* Copies places and, once each, their ids. */
static int copy_places(struct device_grant *grant, const struct device_place *places, size_t n)
{
    auto_(map_done) struct map seen = {};
    const char **ids = arena_new_array(&grant->arena, const char *, MAX(n, 1));

    grant->places = arena_new_array(&grant->arena, struct device_place, MAX(n, 1));
    if (!ids || !grant->places)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        const char *id = map_get(&seen, places[i].id);

        if (!id) {
            id = ids[grant->grant.n_ids] = arena_strdup(&grant->arena, places[i].id);
            if (!id || map_set(&seen, id, (void *)id) < 0)
                return -ENOMEM;
            grant->grant.n_ids++;
        }
        grant->places[grant->n_places++] = (struct device_place){ id, places[i].node };
    }
    grant->grant.ids = ids;
    return 0;
}

static void append(struct device_books *books, struct device_grant *grant)
{
    if (books->last_grant)
        books->last_grant->next = grant;
    else
        books->grants = grant;
    books->last_grant = grant;
}

int device_books_restore(struct device_books *books, const char *pod_uid, const char *container,
                         const char *resource, const struct device_place *places, size_t n_places,
                         struct span response, struct err *err)
{
    struct device_grant *grant = calloc(1, sizeof(*grant));

    if (!grant)
        return err_no_memory(err);
    grant->arena = ARENA_MAX(MESSAGE_ARENA_BYTES);
    struct sim_grant *g = &grant->grant;
    char *bytes = arena_spandup(&grant->arena, response);

    g->pod_uid = arena_strdup(&grant->arena, pod_uid);
    g->container = arena_strdup(&grant->arena, container);
    g->resource = arena_strdup(&grant->arena, resource);
    if (!bytes || !g->pod_uid || !g->container || !g->resource ||
        copy_places(grant, places, n_places) < 0) {
        grant_free(grant);
        return err_no_memory(err);
    }
    g->response = (struct span){ .ptr = bytes, .len = response.len };
    append(books, grant);
    return 0;
}

/* Where the list says that a device is. */
static int add_places(struct arena *arena, const struct device_book *book, const char *id,
                      struct device_place **places, size_t *n)
{
    const struct listed_device *device = NULL;
    size_t n_nodes;

    for (size_t i = 0; book && !device && i < book->list.n; i++)
        if (text_equal(book->list.items[i].id, id))
            device = &book->list.items[i];
    n_nodes = device && device->has_topology ? device->n_numa_nodes : 0;
    for (size_t i = 0; i < MAX(n_nodes, 1); i++) {
        struct device_place *place = arena_push(arena, places, n);

        if (!place)
            return -ENOMEM;
        *place = (struct device_place){ id, n_nodes > 0 ? device->numa_nodes[i] : -1 };
    }
    return 0;
}

int device_books_grant(struct device_books *books, const char *pod_uid,
                       const struct sim_container *container, const char *resource,
                       const struct id_list *ids, struct span response, struct err *err)
{
    const struct device_book *book = device_book_find(books, resource);
    auto_(arena_done) struct arena arena = ARENA_MAX(MESSAGE_ARENA_BYTES);
    struct device_place *places = NULL;
    size_t n = 0;

    for (size_t i = 0; i < ids->n; i++)
        if (add_places(&arena, book, ids->items[i], &places, &n) < 0)
            return err_no_memory(err);
    int r =
        device_books_restore(books, pod_uid, container->name, resource, places, n, response, err);
    if (r == 0)
        books->last_grant->reusable = container->init;
    return r;
}

uint32_t device_books_held(const struct device_books *books, const char *resource)
{
    auto_(map_done) struct map ids = {};

    for (const struct device_grant *grant = books->grants; grant; grant = grant->next)
        if (text_equal(grant->grant.resource, resource) &&
            !map_has(&books->ended, grant->grant.pod_uid))
            for (size_t i = 0; i < grant->grant.n_ids; i++)
                if (map_set(&ids, grant->grant.ids[i], (void *)books) < 0)
                    return 0;
    return (uint32_t)ids.n_live;
}
