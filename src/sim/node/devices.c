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
    book->gone = true;
}

static int by_resource(const void *a, const void *b)
{
    const struct sim_capacity *left = a, *right = b;

    return strcmp(left->resource, right->resource);
}

const struct sim_capacity *device_books_capacity(struct device_books *books, size_t *ret_n)
{
    for (size_t i = 0; i < books->n_books; i++) {
        const struct device_book *book = &books->books[i];
        struct sim_capacity *line = &books->capacity[i];

        *line = (struct sim_capacity){ .resource = book->resource, .capacity = book->list.n };
        for (size_t d = 0; book->alive && d < book->list.n; d++)
            line->allocatable += is_healthy(&book->list.items[d]);
    }
    books->n_capacity = books->n_books;
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
    auto_(map_done) struct map held = {}, reusable = {};
    uint32_t n_healthy = 0, n_free = 0;

    /* A resource that no plugin ever offered is no business of the device manager. */
    if (!book || request->count == 0 || own) {
        ret->nothing_to_do = true;
        return 0;
    }
    if (!book->listed && book->list.n == 0)
        return err_set(err, ENODEV, "cannot allocate unregistered device %s", request->resource);
    for (size_t i = 0; book->alive && i < book->list.n; i++)
        n_healthy += is_healthy(&book->list.items[i]);
    if (n_healthy == 0)
        return err_set(err, ENODEV,
                       "no healthy devices present; cannot allocate unhealthy devices %s",
                       request->resource);
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

int device_books_grant(struct device_books *books, const char *pod_uid,
                       const struct sim_container *container, const char *resource,
                       const struct id_list *ids, struct span response, struct err *err)
{
    struct device_grant *grant = calloc(1, sizeof(*grant));

    if (!grant)
        return err_no_memory(err);
    grant->arena = ARENA_MAX(MESSAGE_ARENA_BYTES);
    grant->reusable = container->init;
    struct sim_grant *g = &grant->grant;
    const char **copies = arena_new_array(&grant->arena, const char *, MAX(ids->n, 1));
    char *bytes = arena_spandup(&grant->arena, response);
    bool ok = copies && bytes;

    g->pod_uid = arena_strdup(&grant->arena, pod_uid);
    g->container = arena_strdup(&grant->arena, container->name);
    g->resource = arena_strdup(&grant->arena, resource);
    for (size_t i = 0; ok && i < ids->n; i++)
        ok = (copies[i] = arena_strdup(&grant->arena, ids->items[i])) != NULL;
    if (!ok || !g->pod_uid || !g->container || !g->resource) {
        grant_free(grant);
        return err_no_memory(err);
    }
    g->ids = copies;
    g->n_ids = ids->n;
    g->response = (struct span){ .ptr = bytes, .len = response.len };
    if (books->last_grant)
        books->last_grant->next = grant;
    else
        books->grants = grant;
    books->last_grant = grant;
    return 0;
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
