/*
 * YAML text to a tree of values, by the rules of the library that upstream reads its files with
 * (Go's yaml v2 behind sigs.k8s.io/yaml; spec/device-plugin §2.4):
 *
 *   words      YAML 1.1, see scalar.h; quoted words and words under !!str are strings
 *   keys       booleans and numbers become text; null, lists and maps are errors; of a key that is
 *              said twice the last one counts, and the map remembers both places
 *   aliases    share the value of their anchor; unknown ones and circles are errors
 *   merging    `<<` takes a map or a list of maps, the earlier of which wins. It acts where it
 *              stands: keys below it override what it brought, it overrides keys above it
 *   refused    tabs as indentation, control characters, bytes that are not UTF-8, even in comments;
 *              and, unlike upstream, a dash without a value in a list that stands as far left as
 *              its key, which libfyaml 0.7.12 cannot read
 *   documents  the first one only, empty or not; an empty text is null
 *
 * JSON is YAML and is read as well. Everything lives in the caller's arena; a value takes about
 * 200 bytes there at worst. On failure the arena may hold remains, *ret is untouched.
 */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "base/text.h"
#include "codec/value.h"

/* A zero, or no limits at all, means the default. */
struct yaml_limits {
    size_t bytes;     /* of the text; 1 MiB, since a ConfigMap cannot be larger */
    size_t nodes;     /* keys and values, each alias counted as all that it repeats; 100,000 */
    size_t documents; /* for yaml_parse_all; 1,000 */
    unsigned depth;   /* lists and maps inside each other, through aliases too; 100 */
};

/* What is wrong and where, for callers who put words of their own around it. */
struct yaml_fault {
    struct place place; /* 0:0 when it is about the whole text */
    char text[512];
};

/* -EINVAL: not the YAML we read; -EFBIG: past a limit; -ENOMEM: the arena's ceiling, or no memory.
 * The sentence is `name:line:col: what is wrong`. */
[[nodiscard]] int yaml_parse(struct span text, const char *name, const struct yaml_limits *limits,
                             struct arena *arena, struct value **ret, struct err *err);

/* Every document of a file for kubectl; those without content are null. */
[[nodiscard]] int yaml_parse_all(struct span text, const char *name,
                                 const struct yaml_limits *limits, struct arena *arena,
                                 struct value ***ret, size_t *ret_n, struct err *err);

/* Both for callers with their own way of telling: they fill *fault on failure. */
[[nodiscard]] int yaml_read(struct span text, const struct yaml_limits *limits, struct arena *arena,
                            struct value **ret, struct yaml_fault *fault);
[[nodiscard]] int yaml_read_all(struct span text, const struct yaml_limits *limits,
                                struct arena *arena, struct value ***ret, size_t *ret_n,
                                struct yaml_fault *fault);
