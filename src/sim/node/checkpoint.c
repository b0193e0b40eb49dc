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

static uint32_t fnv32a(struct span bytes)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < bytes.len; i++)
        hash = (hash ^ (unsigned char)bytes.ptr[i]) * 16777619u;
    return hash;
}

/* Devices without topology are under node 0, as older kubelets wrote them. */
static json_t *entry_of_grant(const struct device_grant *grant)
{
    auto_(buf_done) struct buf response = BUF_MAX(CHECKPOINT_MAX);
    json_t *ids = json_array();

    for (size_t i = 0; i < grant->grant.n_ids; i++)
        json_array_append_new(ids, json_string(grant->grant.ids[i]));
    base64_encode(grant->grant.response, &response);
    return json_pack("{s:s, s:s, s:s, s:{s:o}, s:s, s:b}", "PodUID", grant->grant.pod_uid,
                     "ContainerName", grant->grant.container, "ResourceName", grant->grant.resource,
                     "DeviceIDs", "0", ids, "AllocResp", buf_text(&response), "Init",
                     grant->reusable);
}

static json_t *data_of_books(const struct device_books *books)
{
    json_t *entries = books->grants ? json_array() : json_null(), *registered = json_object();

    for (const struct device_grant *grant = books->grants; grant; grant = grant->next)
        json_array_append_new(entries, entry_of_grant(grant));
    for (size_t i = 0; i < books->n_books; i++) {
        const struct device_book *book = &books->books[i];
        json_t *ids = json_array();

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
    char path[512];

    if (!text)
        return err_no_memory(err);
    if (buf_printf(&file, "{\"Data\":%s,\"Checksum\":%" PRIu32 "}", text, fnv32a(span_of(text))) <
        0)
        return err_set(err, EFBIG, "%s: larger than %zu bytes", CHECKPOINT_NAME, CHECKPOINT_MAX);
    snprintf(path, sizeof(path), "%s/" CHECKPOINT_NAME, dir);
    return file_replace(AT_FDCWD, path, buf_span(&file), 0600, err);
}

static int load_entry(json_t *entry, struct device_books *books, struct err *err)
{
    const char *uid, *container, *resource, *response;
    auto_(arena_done) struct arena arena = ARENA_MAX(CHECKPOINT_MAX);
    auto_(buf_done) struct buf bytes = BUF_MAX(CHECKPOINT_MAX);
    json_t *nodes, *ids, *id;
    struct id_list list = {};
    const char *node;
    size_t i;
    int init = 0;

    if (json_unpack(entry, "{s:s, s:s, s:s, s:o, s:s, s?b}", "PodUID", &uid, "ContainerName",
                    &container, "ResourceName", &resource, "DeviceIDs", &nodes, "AllocResp",
                    &response, "Init", &init) < 0 ||
        base64_decode(response, &bytes) < 0)
        return err_set(err, EBADMSG, "an entry is not of the known form");
    json_object_foreach(nodes, node, ids) json_array_foreach(ids, i, id)
    {
        const char **slot = arena_push(&arena, &list.items, &list.n);

        if (!slot || !json_is_string(id))
            return err_set(err, EBADMSG, "a device id is not a string");
        *slot = json_string_value(id);
    }
    struct sim_container holder = { .name = container, .init = init };
    return device_books_grant(books, uid, &holder, resource, &list, buf_span(&bytes), err);
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
    auto_free char *bytes = json_dumps(data, JSON_COMPACT);
    if (!bytes || fnv32a(span_of(bytes)) != (uint32_t)checksum)
        return err_set(err, EBADMSG, "%s: checkpoint is corrupted", path);

    struct device_books loaded = {};
    json_object_foreach(registered, resource, value)
    {
        struct device_book *book;

        r = r < 0 ? r : device_book_open(&loaded, resource, &book, err);
    }
    json_array_foreach(entries, i, value) r = r < 0 ? r : load_entry(value, &loaded, err);
    if (r < 0) {
        device_books_done(&loaded);
        return err_wrap(err, r, "%s", path);
    }
    *books = loaded;
    return 0;
}
