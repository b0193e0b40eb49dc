#include "sim/node/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "codec/json.h"

#define CHECKPOINT_NAME "kubelet_internal_checkpoint"
#define CHECKPOINT_MAX  MIB(32)

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void base64_encode(struct span bytes, struct buf *out)
{
    for (size_t i = 0; i < bytes.len; i += 3) {
        uint32_t group = 0;
        size_t n = MIN(bytes.len - i, 3);

        for (size_t b = 0; b < 3; b++)
            group = group << 8 | (b < n ? (unsigned char)bytes.ptr[i + b] : 0);
        for (size_t d = 0; d < 4; d++)
            buf_add_char(out, d <= n ? base64_digits[group >> (18 - 6 * d) & 63] : '=');
    }
}

static int base64_decode(const char *text, struct buf *out)
{
    size_t len = strlen(text);
    uint32_t group = 0;

    if (len % 4 != 0)
        return -EBADMSG;
    for (size_t i = 0; i < len; i++) {
        const char *digit = text[i] == '=' ? base64_digits : strchr(base64_digits, text[i]);

        if (!digit || !*digit)
            return -EBADMSG;
        group = group << 6 | (uint32_t)(digit - base64_digits);
        if (i % 4 != 3)
            continue;
        size_t n = text[i] != '=' ? 3 : text[i - 1] != '=' ? 2 : 1;
        for (size_t b = 0; b < n; b++)
            buf_add_char(out, (char)(group >> (16 - 8 * b)));
        group = 0;
    }
    return out->failed ? -ENOMEM : 0;
}

/* ---- the checksum ---- */

static uint32_t fnv32a(struct span bytes)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < bytes.len; i++)
        hash = (hash ^ (unsigned char)bytes.ptr[i]) * 16777619u;
    return hash;
}

static void print_strings(const json_t *list, struct buf *out)
{
    json_t *item;
    size_t i;

    buf_add_char(out, '[');
    json_array_foreach(list, i, item) buf_printf(
        out, "%s%s", i > 0 ? " " : "", json_is_string(item) ? json_string_value(item) : "");
    buf_add_char(out, ']');
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int by_number(const void *a, const void *b)
{
    long long left = atoll(*(const char *const *)a), right = atoll(*(const char *const *)b);

    return left < right ? -1 : left > right;
}

/* map[key:[item item] key:[]] with its keys in order. */
static void print_map(const json_t *map, int (*order)(const void *, const void *), struct buf *out)
{
    size_t n = 0;
    auto_free const char **keys = calloc(json_object_size(map) + 1, sizeof(*keys));
    const char *key;
    json_t *value;

    if (!keys) {
        out->failed = true;
        return;
    }
    json_object_foreach((json_t *)map, key, value) keys[n++] = key;
    qsort(keys, n, sizeof(*keys), order);
    buf_add_text(out, "map[");
    for (size_t i = 0; i < n; i++) {
        buf_printf(out, "%s%s:", i > 0 ? " " : "", keys[i]);
        print_strings(json_object_get(map, keys[i]), out);
    }
    buf_add_char(out, ']');
}

static void print_bytes(struct span bytes, struct buf *out)
{
    buf_add_char(out, '[');
    for (size_t i = 0; i < bytes.len; i++)
        buf_printf(out, "%s%u", i > 0 ? " " : "", (unsigned char)bytes.ptr[i]);
    buf_add_char(out, ']');
}

static void print_entry(const json_t *entry, struct buf *out)
{
    static const char *const texts[] = { "PodUID", "ContainerName", "ResourceName" };
    auto_(buf_done) struct buf response = BUF_MAX(CHECKPOINT_MAX);
    const char *base64 = json_string_value(json_object_get(entry, "AllocResp"));

    buf_add_char(out, '{');
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        const char *text = json_string_value(json_object_get(entry, texts[i]));

        buf_printf(out, "%s:(string)%s ", texts[i], text ? text : "");
    }
    buf_add_text(out, "DeviceIDs:(checkpoint.DevicesPerNUMA)");
    print_map(json_object_get(entry, "DeviceIDs"), by_number, out);
    buf_add_text(out, " AllocResp:([]uint8)");
    if (base64_decode(base64 ? base64 : "", &response) < 0)
        out->failed = true;
    print_bytes(buf_span(&response), out);
    buf_add_char(out, '}');
}

/* -EFBIG, -EBADMSG: it has no checksum. */
static int checksum_of(const json_t *data, uint32_t *ret)
{
    auto_(buf_done) struct buf text = BUF_MAX(8 * CHECKPOINT_MAX); /* a byte takes four */
    const json_t *entries = json_object_get(data, "PodDeviceEntries");
    json_t *entry;
    size_t i;

    buf_add_text(&text,
                 "(checkpoint.checkpointData){PodDeviceEntries:([]checkpoint.PodDevicesEntry)");
    buf_add_text(&text, json_is_array(entries) ? "[" : "<nil>");
    json_array_foreach(entries, i, entry)
    {
        buf_add_text(&text, i > 0 ? " " : "");
        print_entry(entry, &text);
    }
    buf_add_text(&text, json_is_array(entries) ? "]" : "");
    buf_add_text(&text, " RegisteredDevices:(map[string][]string)");
    print_map(json_object_get(data, "RegisteredDevices"), by_text, &text);
    buf_add_char(&text, '}');
    if (text.failed)
        return -EBADMSG;
    *ret = fnv32a(buf_span(&text));
    return 0;
}

/* ---- the file ---- */

/* {"0":["a","b"]}; devices without topology are under "-1". */
static json_t *places_json(const struct device_grant *grant)
{
    json_t *nodes = json_object();

    for (size_t i = 0; i < grant->n_places; i++) {
        char node[24];

        snprintf(node, sizeof(node), "%" PRId64, grant->places[i].node);
        if (!json_object_get(nodes, node))
            json_object_set_new(nodes, node, json_array());
        json_array_append_new(json_object_get(nodes, node), json_string(grant->places[i].id));
    }
    return nodes;
}

static json_t *entry_of_grant(const struct device_grant *grant)
{
    auto_(buf_done) struct buf response = BUF_MAX(CHECKPOINT_MAX);

    base64_encode(grant->grant.response, &response);
    return json_pack("{s:s, s:s, s:s, s:o, s:s}", "PodUID", grant->grant.pod_uid, "ContainerName",
                     grant->grant.container, "ResourceName", grant->grant.resource, "DeviceIDs",
                     places_json(grant), "AllocResp", buf_text(&response));
}

static json_t *data_of_books(const struct device_books *books)
{
    json_t *entries = books->grants ? json_array() : json_null(), *registered = json_object();

    for (const struct device_grant *grant = books->grants; grant; grant = grant->next)
        json_array_append_new(entries, entry_of_grant(grant));
    for (size_t i = 0; i < books->n_books; i++) {
        const struct device_book *book = &books->books[i];
        json_t *ids;

        if (!book->known)
            continue;
        ids = json_array();
        for (size_t d = 0; book->alive && d < book->list.n; d++)
            if (text_equal(book->list.items[d].health, PLUGIN_HEALTHY))
                json_array_append_new(ids, json_string(book->list.items[d].id));
        json_object_set_new(registered, book->resource, ids);
    }
    return json_pack("{s:o, s:o}", "PodDeviceEntries", entries, "RegisteredDevices", registered);
}

int checkpoint_save(const char *dir, const struct device_books *books, struct err *err)
{
    auto_(json_decrefp) json_t *data = data_of_books(books);
    auto_free char *text = data ? json_dumps(data, JSON_COMPACT) : NULL;
    auto_(buf_done) struct buf file = BUF_MAX(CHECKPOINT_MAX);
    uint32_t checksum;
    char path[512];

    if (!text)
        return err_no_memory(err);
    if (checksum_of(data, &checksum) < 0 ||
        buf_printf(&file, "{\"Data\":%s,\"Checksum\":%" PRIu32 "}", text, checksum) < 0)
        return err_set(err, EFBIG, "%s: larger than %zu bytes", CHECKPOINT_NAME, CHECKPOINT_MAX);
    snprintf(path, sizeof(path), "%s/" CHECKPOINT_NAME, dir);
    return file_replace(AT_FDCWD, path, buf_span(&file), 0600, err);
}

static int load_entry(json_t *entry, struct device_books *books, struct err *err)
{
    const char *uid, *container, *resource, *response, *node;
    auto_(arena_done) struct arena arena = ARENA_MAX(CHECKPOINT_MAX);
    auto_(buf_done) struct buf bytes = BUF_MAX(CHECKPOINT_MAX);
    struct device_place *places = NULL;
    json_t *nodes, *ids, *id;
    size_t n = 0, i;

    if (json_unpack(entry, "{s:s, s:s, s:s, s:o, s:s}", "PodUID", &uid, "ContainerName", &container,
                    "ResourceName", &resource, "DeviceIDs", &nodes, "AllocResp", &response) < 0 ||
        base64_decode(response, &bytes) < 0)
        return err_set(err, EBADMSG, "an entry is not of the known form");
    json_object_foreach(nodes, node, ids) json_array_foreach(ids, i, id)
    {
        struct device_place *place = arena_push(&arena, &places, &n);

        if (!place || !json_is_string(id))
            return err_set(err, EBADMSG, "a device id is not a string");
        *place = (struct device_place){ json_string_value(id), atoll(node) };
    }
    return device_books_restore(books, uid, container, resource, places, n, buf_span(&bytes), err);
}

int checkpoint_load(const char *dir, struct device_books *books, struct err *err)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(2 * CHECKPOINT_MAX);
    auto_(json_decrefp) json_t *file = NULL;
    json_t *data, *entries, *registered, *value;
    struct span text;
    const char *resource;
    json_int_t checksum;
    size_t i;
    char path[512];

    snprintf(path, sizeof(path), "%s/" CHECKPOINT_NAME, dir);
    int r = file_read(AT_FDCWD, path, CHECKPOINT_MAX, &arena, &text, err);
    if (r < 0)
        return r;
    file = json_loadb(text.ptr, text.len, 0, NULL);
    if (!file || json_unpack(file, "{s:o, s:I}", "Data", &data, "Checksum", &checksum) < 0 ||
        json_unpack(data, "{s:o, s:o}", "PodDeviceEntries", &entries, "RegisteredDevices",
                    &registered) < 0)
        return err_set(err, EBADMSG, "%s: not a checkpoint", path);
    uint32_t actual;
    if (checksum_of(data, &actual) < 0 || actual != (uint32_t)checksum)
        return err_set(err, EBADMSG, "%s: checkpoint is corrupted", path);

    struct device_books loaded = {};
    json_object_foreach(registered, resource, value)
    {
        struct device_book *book;

        r = r < 0 ? r : device_book_open(&loaded, resource, &book, err);
        if (r == 0)
            book->known = true;
    }
    json_array_foreach(entries, i, value) r = r < 0 ? r : load_entry(value, &loaded, err);
    if (r < 0) {
        device_books_done(&loaded);
        return err_wrap(err, r, "%s", path);
    }
    *books = loaded;
    return 0;
}
