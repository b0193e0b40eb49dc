#include "codec/yaml_build.h"

#include <errno.h>

#include "base/mem.h"
#include "codec/scalar.h"
#include "codec/yaml_screen.h"

struct yaml_anchor {
    struct value *value;
    size_t n_nodes;  /* that an alias repeats */
    unsigned height; /* levels of lists and maps in it */
    bool open;       /* its list or map has not ended yet */
};

struct yaml_frame {
    struct value *value;        /* the open list or map */
    struct yaml_anchor *anchor; /* its own, or NULL */
    size_t nodes_before;
    unsigned height; /* so far: 1 and the highest child's */

    /* A map's key that waits for its value. */
    bool has_key, merging;
    const char *key;
    struct place key_place;
};

#define FAULT(builder, place, code, ...)                                                           \
    yaml_fault_set((builder)->fault, (place), (code), __VA_ARGS__)

static int no_memory(struct yaml_builder *builder)
{
    return FAULT(builder, (struct place){}, ENOMEM, "out of memory");
}

int yaml_build_start(struct yaml_builder *builder)
{
    builder->frames = mem_alloc((builder->limits.depth + 1) * sizeof(*builder->frames));
    return builder->frames ? 0 : no_memory(builder);
}

void yaml_build_done(struct yaml_builder *builder)
{
    mem_free(builder->frames);
    map_done(&builder->anchors);
}

/* ---- nodes ---- */

static int count_nodes(struct yaml_builder *builder, size_t n, struct place place)
{
    if (n > builder->limits.nodes - builder->n_nodes)
        return FAULT(builder, place, EFBIG, "more than %zu values, each alias counted in full",
                     builder->limits.nodes);
    builder->n_nodes += n;
    return 0;
}

static struct place place_of(struct yaml_builder *builder, const struct yaml_node *node)
{
    if (node->place.line)
        builder->last = node->place;
    return builder->last;
}

static int new_value(struct yaml_builder *builder, enum value_kind kind,
                     const struct yaml_node *node, struct value **ret)
{
    struct place place = place_of(builder, node);
    int r = count_nodes(builder, 1, place);

    if (r < 0)
        return r;
    struct value *value = arena_new(builder->arena, struct value);
    if (!value)
        return no_memory(builder);
    value->kind = kind;
    value->place = place;
    *ret = value;
    return 0;
}

static int new_anchor(struct yaml_builder *builder, const struct yaml_node *node,
                      struct yaml_anchor anchor, struct yaml_anchor **ret)
{
    if (!node->anchor.ptr)
        return 0;
    char *name = arena_spandup(builder->arena, node->anchor);
    struct yaml_anchor *copy = arena_new(builder->arena, struct yaml_anchor);
    if (!name || !copy)
        return no_memory(builder);
    *copy = anchor;
    if (map_set(&builder->anchors, name, copy) < 0)
        return no_memory(builder);
    if (ret)
        *ret = copy;
    return 0;
}

/* ---- keys ---- */

static struct yaml_frame *top(struct yaml_builder *builder)
{
    return builder->n_frames ? &builder->frames[builder->n_frames - 1] : NULL;
}

static bool wants_key(const struct yaml_frame *frame)
{
    return frame && frame->value->kind == VALUE_MAP && !frame->has_key;
}

static int refuse_key(struct yaml_builder *builder, enum value_kind kind, struct place place)
{
    return FAULT(builder, place, EINVAL, "%s cannot be a key%s", value_kind_names[kind],
                 kind == VALUE_NULL ? "; quote the word if it is meant as text" : "");
}

static int key_text(struct yaml_builder *builder, const struct value *value, struct place place,
                    const char **ret)
{
    struct scalar scalar = { .kind = value->kind };
    char text[SCALAR_KEY_SIZE];

    if (value->kind == VALUE_STRING) {
        if (strlen(value->text.ptr) != value->text.len)
            return FAULT(builder, place, EINVAL, "a key cannot hold the character \\0");
        return *ret = value->text.ptr, 0;
    }
    if (value->kind == VALUE_BOOL)
        scalar.boolean = value->boolean;
    else if (value->kind == VALUE_INT)
        scalar.integer = value->integer;
    else if (value->kind == VALUE_FLOAT)
        scalar.number = value->number;
    if (scalar_key(scalar, text) < 0)
        return refuse_key(builder, value->kind, place);
    *ret = arena_strdup(builder->arena, text);
    return *ret ? 0 : no_memory(builder);
}

static int take_key(struct yaml_builder *builder, const struct value *value, struct place place)
{
    struct yaml_frame *frame = top(builder);
    struct place *begin = &frame->value->place;
    int r = key_text(builder, value, place, &frame->key);

    if (r < 0)
        return r;
    frame->has_key = true;
    frame->key_place = place;
    /* In `[a: 1]` the parser sees the map at its colon. */
    if (begin->line == place.line && begin->column > place.column)
        *begin = place;
    return 0;
}

/* ---- children ---- */

static int add_entry(struct yaml_builder *builder, struct value *map, struct value_entry entry)
{
    struct value_entry *place = arena_push(builder->arena, &map->entries, &map->n_entries);

    if (!place)
        return no_memory(builder);
    *place = entry;
    return 0;
}

static int merge_map(struct yaml_builder *builder, struct value *map, const struct value *source)
{
    for (size_t i = 0; i < source->n_entries; i++) {
        struct value_entry entry = source->entries[i];
        entry.merged = true;
        int r = add_entry(builder, map, entry);
        if (r < 0)
            return r;
    }
    return 0;
}

static bool is_list_of_maps(const struct value *value)
{
    if (value->kind != VALUE_LIST)
        return false;
    for (size_t i = 0; i < value->n_items; i++)
        if (value->items[i]->kind != VALUE_MAP)
            return false;
    return true;
}

/* Upstream follows an alias to a map here, but not one to a list. */
static int merge(struct yaml_builder *builder, struct value *map, const struct value *source,
                 bool is_alias, struct place place)
{
    if (source->kind == VALUE_MAP)
        return merge_map(builder, map, source);
    if (is_alias || !is_list_of_maps(source))
        return FAULT(builder, place, EINVAL, "a merge key (<<) wants a map or a list of maps");
    for (size_t i = source->n_items; i > 0; i--) { /* backwards: the first shall win */
        int r = merge_map(builder, map, source->items[i - 1]);
        if (r < 0)
            return r;
    }
    return 0;
}

struct child {
    struct value *value;
    struct place place; /* where it stands, which for an alias is not where the value is */
    unsigned height;
    bool is_alias;
};

static int add_to_map(struct yaml_builder *builder, struct yaml_frame *frame, struct child child)
{
    frame->has_key = false;
    if (frame->merging) {
        frame->merging = false;
        return merge(builder, frame->value, child.value, child.is_alias, child.place);
    }
    return add_entry(
        builder, frame->value,
        (struct value_entry){ .key = frame->key, .place = frame->key_place, .value = child.value });
}

static int add_child(struct yaml_builder *builder, struct child child)
{
    struct yaml_frame *frame = top(builder);
    struct value *parent = frame ? frame->value : NULL;

    if (!frame)
        return builder->root = child.value, 0;
    if (wants_key(frame))
        return take_key(builder, child.value, child.place);
    frame->height = MAX(frame->height, child.height + 1);
    if (parent->kind == VALUE_MAP)
        return add_to_map(builder, frame, child);
    struct value **item = arena_push(builder->arena, &parent->items, &parent->n_items);
    if (!item)
        return no_memory(builder);
    *item = child.value;
    return 0;
}

/* ---- what the parser tells ---- */

static bool is_merge_key(const struct yaml_node *node)
{
    bool tagged = node->tag.ptr && span_equal(node->tag, SPAN("tag:yaml.org,2002:merge"));

    return span_equal(node->text, SPAN("<<")) && (tagged || (node->plain && !node->tag.ptr));
}

static int read_scalar(struct yaml_builder *builder, const struct yaml_node *node,
                       struct value *value)
{
    struct scalar scalar = { .kind = VALUE_STRING };

    value->text.ptr = arena_spandup(builder->arena, node->text);
    value->text.len = node->text.len;
    if (!value->text.ptr)
        return no_memory(builder);
    if (node->tag.ptr && scalar_read_tagged(node->tag, node->text, &scalar) < 0)
        return FAULT(builder, value->place, EINVAL,
                     "\"%s\" is not of the type that its tag %.*s says", value->text.ptr,
                     SPAN_ARG(node->tag));
    if (!node->tag.ptr && node->plain)
        scalar = scalar_read(node->text);

    value->kind = scalar.kind;
    if (scalar.kind == VALUE_BOOL)
        value->boolean = scalar.boolean;
    else if (scalar.kind == VALUE_INT)
        value->integer = scalar.integer;
    else if (scalar.kind == VALUE_FLOAT)
        value->number = scalar.number;
    return 0;
}

int yaml_build_scalar(struct yaml_builder *builder, const struct yaml_node *node)
{
    struct value *value;
    int r = new_value(builder, VALUE_STRING, node, &value);

    if (r < 0)
        return r;
    r = read_scalar(builder, node, value);
    if (r < 0)
        return r;
    r = new_anchor(builder, node, (struct yaml_anchor){ .value = value, .n_nodes = 1 }, NULL);
    if (r < 0)
        return r;
    if (wants_key(top(builder)))
        top(builder)->merging = is_merge_key(node);
    return add_child(builder, (struct child){ .value = value, .place = value->place });
}

int yaml_build_alias(struct yaml_builder *builder, const struct yaml_node *node)
{
    struct place place = place_of(builder, node);
    auto_free char *name = strndup(node->text.ptr, node->text.len);

    if (!name)
        return no_memory(builder);
    const struct yaml_anchor *anchor = map_get(&builder->anchors, name);
    if (!anchor)
        return FAULT(builder, place, EINVAL, "*%s stands for nothing: there is no &%s before it",
                     name, name);
    if (anchor->open)
        return FAULT(builder, place, EINVAL, "*%s stands inside the value that it stands for",
                     name);
    if (builder->n_frames + anchor->height > builder->limits.depth)
        return FAULT(builder, place, EFBIG, "more than %u lists and maps inside each other",
                     builder->limits.depth);
    int r = count_nodes(builder, anchor->n_nodes, place);
    if (r < 0)
        return r;
    return add_child(builder, (struct child){ .value = anchor->value,
                                              .place = place,
                                              .height = anchor->height,
                                              .is_alias = true });
}

int yaml_build_open(struct yaml_builder *builder, enum value_kind kind,
                    const struct yaml_node *node)
{
    size_t nodes_before = builder->n_nodes;
    struct yaml_frame *frame = &builder->frames[builder->n_frames];
    struct value *value;
    int r = new_value(builder, kind, node, &value);

    if (r < 0)
        return r;
    if (wants_key(top(builder)))
        return refuse_key(builder, kind, value->place);
    if (builder->n_frames >= builder->limits.depth)
        return FAULT(builder, value->place, EFBIG, "more than %u lists and maps inside each other",
                     builder->limits.depth);
    *frame = (struct yaml_frame){ .value = value, .nodes_before = nodes_before, .height = 1 };
    r = new_anchor(builder, node, (struct yaml_anchor){ .value = value, .open = true },
                   &frame->anchor);
    if (r < 0)
        return r;
    builder->n_frames++;
    return 0;
}

int yaml_build_close(struct yaml_builder *builder)
{
    struct yaml_frame frame = *top(builder);

    builder->n_frames--;
    if (frame.value->kind == VALUE_MAP && value_settle_map(frame.value, builder->arena) < 0)
        return no_memory(builder);
    if (frame.anchor) {
        frame.anchor->open = false;
        frame.anchor->height = frame.height;
        frame.anchor->n_nodes = builder->n_nodes - frame.nodes_before;
    }
    return add_child(builder, (struct child){ .value = frame.value,
                                              .place = frame.value->place,
                                              .height = frame.height });
}

int yaml_build_finish(struct yaml_builder *builder, struct value **ret)
{
    static const struct yaml_node nothing = { .place = { 1, 1 }, .text = { "", 0 }, .plain = true };

    if (!builder->root) {
        int r = yaml_build_scalar(builder, &nothing);
        if (r < 0)
            return r;
    }
    *ret = steal(builder->root);
    map_done(&builder->anchors);
    return 0;
}
