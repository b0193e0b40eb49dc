/*
 * The half of the YAML reader that thinks: it is told what the parser sees, node by node, and
 * builds the tree. It knows anchors, merge keys and limits, and nothing of the parser. For yaml.c.
 */
#pragma once

#include "base/map.h"
#include "codec/value.h"
#include "codec/yaml.h"

struct yaml_frame;

struct yaml_builder {
    struct arena *arena; /* borrowed */
    struct yaml_limits limits;
    struct yaml_fault *fault;  /* borrowed; filled on failure */
    struct yaml_frame *frames; /* owned; the open lists and maps, outermost first */
    size_t n_frames;
    size_t n_nodes;     /* so far, in all documents */
    struct map anchors; /* of this document; values in the arena */
    struct place last;  /* where the newest node with a place was */
    struct value *root; /* of this document */
};

/* A node as the parser saw it. Spans are the parser's and are copied. */
struct yaml_node {
    struct place place; /* 0:0 for a value that was left out */
    struct span text;   /* of a scalar; of an alias, the anchor's name */
    struct span anchor; /* NULL pointer: none */
    struct span tag;    /* NULL pointer: none */
    bool plain;         /* a scalar without quotes, or one that was left out */
};

[[nodiscard]] int yaml_build_start(struct yaml_builder *builder);
void yaml_build_done(struct yaml_builder *builder);

/* Negative errno with the fault filled. */
[[nodiscard]] int yaml_build_scalar(struct yaml_builder *builder, const struct yaml_node *node);
[[nodiscard]] int yaml_build_alias(struct yaml_builder *builder, const struct yaml_node *node);
[[nodiscard]] int yaml_build_open(struct yaml_builder *builder, enum value_kind kind,
                                  const struct yaml_node *node);
[[nodiscard]] int yaml_build_close(struct yaml_builder *builder);

/* Hands out the document that was built (null when there was none) and forgets its anchors. */
[[nodiscard]] int yaml_build_finish(struct yaml_builder *builder, struct value **ret);
