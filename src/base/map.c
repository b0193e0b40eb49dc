#include "base/map.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/mem.h"

enum { SLOTS_FIRST = 8 };

static uint64_t seed[2];
static pthread_once_t seeded = PTHREAD_ONCE_INIT;

/* Keys come from outside; with a seed nobody knows, nobody can choose keys that collide. */
static void make_seed(void)
{
    struct timespec now = {};

    if (getrandom(seed, sizeof(seed), GRND_NONBLOCK) == sizeof(seed))
        return;
    clock_gettime(CLOCK_MONOTONIC, &now); /* before the pool is ready, at early boot */
    seed[0] = (uint64_t)now.tv_nsec * 0x9E3779B97F4A7C15u;
    seed[1] = (uint64_t)(uintptr_t)&now ^ (uint64_t)now.tv_sec;
}

static uint64_t rotate(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1], v[1] = rotate(v[1], 13) ^ v[0], v[0] = rotate(v[0], 32);
    v[2] += v[3], v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = rotate(v[1], 17) ^ v[2], v[2] = rotate(v[2], 32);
}

static void sip_absorb(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
}

/* SipHash-1-3 of Aumasson and Bernstein. */
static uint32_t hash_of(const char *key)
{
    pthread_once(&seeded, make_seed);
    uint64_t v[4] = {
        seed[0] ^ 0x736f6d6570736575u,
        seed[1] ^ 0x646f72616e646f6du,
        seed[0] ^ 0x6c7967656e657261u,
        seed[1] ^ 0x7465646279746573u,
    };
    size_t len = strlen(key), rest = len % 8;
    uint64_t word;

    for (const char *at = key; at < key + len - rest; at += 8) {
        memcpy(&word, at, 8);
        sip_absorb(v, word);
    }
    word = 0;
    memcpy(&word, key + len - rest, rest);
    sip_absorb(v, word | (uint64_t)len << 56);
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return (uint32_t)(v[0] ^ v[1] ^ v[2] ^ v[3]);
}

void map_done(struct map *map)
{
    for (size_t i = 0; i < map->n_entries; i++)
        mem_free(map->entries[i].key);
    mem_free(map->entries);
    mem_free(map->slots);
    *map = (struct map){};
}

/* A quarter of the slots stays free, so that a search for a missing key ends soon. Removed entries
 * keep their slot until the next resize: a search has to walk over them. */
static size_t entries_that_fit(size_t cap)
{
    return cap - cap / 4;
}

static struct map_entry *find(const struct map *map, const char *key, uint32_t hash)
{
    if (map->n_live == 0)
        return NULL;
    for (size_t i = hash & (map->cap - 1); map->slots[i]; i = (i + 1) & (map->cap - 1)) {
        struct map_entry *entry = &map->entries[map->slots[i] - 1];
        if (entry->key && entry->hash == hash && strcmp(entry->key, key) == 0)
            return entry;
    }
    return NULL;
}

static void fill_slot(uint32_t *slots, size_t cap, uint32_t hash, size_t index)
{
    size_t i = hash & (cap - 1);

    while (slots[i])
        i = (i + 1) & (cap - 1);
    slots[i] = (uint32_t)(index + 1);
}

/* Moves the living entries, in their order, to tables with room for one more than there are. */
static int resize(struct map *map)
{
    size_t cap = SLOTS_FIRST, n = 0;

    while (entries_that_fit(cap) < 2 * map->n_live)
        cap *= 2;
    if (cap > UINT32_MAX / 2)
        return -ENOMEM;
    struct map_entry *entries = mem_alloc(entries_that_fit(cap) * sizeof(*entries));
    uint32_t *slots = mem_alloc(cap * sizeof(*slots));
    if (!entries || !slots) {
        mem_free(entries);
        mem_free(slots);
        return -ENOMEM;
    }
    for (size_t i = 0; i < map->n_entries; i++) {
        if (!map->entries[i].key)
            continue;
        entries[n] = map->entries[i];
        fill_slot(slots, cap, entries[n].hash, n);
        n++;
    }
    mem_free(map->entries);
    mem_free(map->slots);
    *map =
        (struct map){ .entries = entries, .slots = slots, .n_entries = n, .n_live = n, .cap = cap };
    return 0;
}

void *map_get(const struct map *map, const char *key)
{
    struct map_entry *entry = map->n_live ? find(map, key, hash_of(key)) : NULL;

    return entry ? entry->value : NULL;
}

bool map_has(const struct map *map, const char *key)
{
    return map->n_live && find(map, key, hash_of(key));
}

static char *copy_key(const char *key)
{
    size_t size = strlen(key) + 1;
    char *copy = mem_alloc(size);

    return copy ? memcpy(copy, key, size) : NULL;
}

int map_set(struct map *map, const char *key, void *value)
{
    uint32_t hash = hash_of(key);
    struct map_entry *entry = find(map, key, hash);

    if (entry) {
        entry->value = value;
        return 0;
    }
    if (map->n_entries == entries_that_fit(map->cap) && resize(map) < 0)
        return -ENOMEM;
    char *copy = copy_key(key);
    if (!copy)
        return -ENOMEM;
    map->entries[map->n_entries] = (struct map_entry){ .key = copy, .value = value, .hash = hash };
    fill_slot(map->slots, map->cap, hash, map->n_entries);
    map->n_entries++;
    map->n_live++;
    return 0;
}

void *map_remove(struct map *map, const char *key)
{
    struct map_entry *entry = map->n_live ? find(map, key, hash_of(key)) : NULL;

    if (!entry)
        return NULL;
    mem_free(steal(entry->key));
    map->n_live--;
    return steal(entry->value);
}

struct map_entry *map_next(const struct map *map, size_t *position)
{
    while (*position < map->n_entries) {
        struct map_entry *entry = &map->entries[(*position)++];
        if (entry->key)
            return entry;
    }
    return NULL;
}
