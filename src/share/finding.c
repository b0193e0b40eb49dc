#include "share/finding.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "share/go_text.h"

static bool has_room(struct findings *findings, enum finding_kind kind)
{
    size_t *n = kind == FINDING_WARNING ? &findings->n_warnings : &findings->n_errors;
    size_t max = kind == FINDING_WARNING ? FINDINGS_MAX_WARNINGS : FINDINGS_MAX_ERRORS;

    if (findings->failed)
        return false;
    if (*n >= max) {
        findings->n_left_out++;
        return false;
    }
    ++*n;
    return true;
}

void finding_add_text(struct findings *findings, enum finding_kind kind, struct place place,
                      const char *advice, const char *text)
{
    struct finding *finding;

    if (!has_room(findings, kind))
        return;
    finding = text ? arena_push(findings->arena, &findings->items, &findings->n) : NULL;
    if (!finding) {
        findings->failed = true;
        return;
    }
    *finding = (struct finding){ .kind = kind, .place = place, .text = text, .advice = advice };
}

static char *format_text(struct arena *arena, const char *format, va_list args)
{
    char text[2048]; /* an err holds half of that */

    vsnprintf(text, sizeof(text), format, args);
    text[text_utf8_prefix(span_of(text))] = '\0'; /* a cut may go through a character */
    return arena_strdup(arena, text);
}

void finding_add(struct findings *findings, enum finding_kind kind, struct place place,
                 const char *advice, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    finding_add_text(findings, kind, place, advice, format_text(findings->arena, format, args));
    va_end(args);
}

const char *finding_advice(struct findings *findings, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    const char *text = format_text(findings->arena, format, args);
    va_end(args);
    if (!text)
        findings->failed = true;
    return text ? text : "";
}

void finding_add_mismatch(struct findings *findings, const struct value *value, const char *type,
                          const char *advice)
{
    char *text = findings->go_field
                     ? go_json_field_mismatch(findings->arena, value, findings->go_field, type)
                     : go_json_mismatch(findings->arena, value, type);

    finding_add_text(findings, FINDING_ERROR, value->place, advice, text);
}

/* Of those of the highest kind the first. */
static const struct finding *first_error(const struct findings *findings)
{
    const struct finding *first = NULL;

    for (size_t i = 0; i < findings->n; i++) {
        const struct finding *finding = &findings->items[i];
        if (finding->kind != FINDING_WARNING && (!first || finding->kind > first->kind))
            first = finding;
    }
    return first;
}

char *finding_words(struct arena *arena, const struct finding *finding)
{
    if (!finding->advice)
        return arena_strdup(arena, finding->text);
    return arena_printf(arena, "%s; %s", finding->text, finding->advice);
}

char *finding_sentence(struct arena *arena, const struct finding *finding, const char *name)
{
    const char *words = finding_words(arena, finding);

    if (!words)
        return NULL;
    if (finding->place.line == 0)
        return arena_strdup(arena, words);
    return arena_printf(arena, "%s:%u:%u: %s", name, finding->place.line, finding->place.column,
                        words);
}

int findings_read_yaml(struct findings *findings, struct span text,
                       const struct yaml_limits *limits, struct value **ret, struct err *err)
{
    struct yaml_fault fault = {};

    *ret = NULL;
    int r = yaml_read(text, limits, findings->arena, ret, &fault);
    if (r == -ENOMEM)
        return err_no_memory(err);
    if (r < 0)
        finding_add(findings, FINDING_SYNTAX, fault.place, NULL, "%s", fault.text);
    return 0;
}

int findings_verdict(const struct findings *findings, const char *name, enum finding_kind *ret_kind,
                     struct err *err)
{
    const struct finding *finding = first_error(findings);

    if (findings->failed)
        return err_no_memory(err);
    if (!finding)
        return 0;
    const char *sentence = finding_sentence(findings->arena, finding, name);
    if (!sentence)
        return err_no_memory(err);
    *ret_kind = finding->kind;
    return err_set(err, EINVAL, "%s", sentence);
}

const char *finding_go_context(enum finding_kind kind)
{
    return kind == FINDING_SYNTAX ? "error converting YAML to JSON: yaml"
                                  : "error unmarshaling JSON: while decoding JSON";
}

/* An insertion sort: stable, and there are a few hundred at most, mostly in order. */
void findings_sort(struct findings *findings)
{
    struct finding *items = findings->items;

    for (size_t i = 1; i < findings->n; i++) {
        struct finding moved = items[i];
        size_t at = i;
        for (; at > 0; at--) {
            struct place before = items[at - 1].place;
            if (before.line < moved.place.line ||
                (before.line == moved.place.line && before.column <= moved.place.column))
                break;
            items[at] = items[at - 1];
        }
        items[at] = moved;
    }
}

int findings_failed(const struct findings *findings, struct err *err)
{
    return findings->failed ? err_no_memory(err) : 0;
}

/* ---- what many readers notice ---- */

static bool key_equal(const char *a, const char *b, bool exact)
{
    return exact ? text_equal(a, b) : strcasecmp(a, b) == 0;
}

static bool is_known(const char *key, const char *const *known, size_t n_known, bool exact)
{
    for (size_t i = 0; i < n_known; i++)
        if (key_equal(key, known[i], exact))
            return true;
    return false;
}

/* The known key that differs in letter case only. */
static const char *same_letters(const char *key, const char *const *known, size_t n_known)
{
    for (size_t i = 0; i < n_known; i++)
        if (strcasecmp(key, known[i]) == 0)
            return known[i];
    return NULL;
}

static void warn_of_unknown(struct findings *findings, const struct value_entry *entry,
                            const char *nearest, const char *section)
{
    if (nearest)
        finding_add(findings, FINDING_WARNING, entry->place, NULL,
                    "unknown key `%s`, did you mean `%s`?", entry->key, nearest);
    else if (section)
        finding_add(findings, FINDING_WARNING, entry->place, NULL,
                    "unknown key `%s` here, it belongs under `%s`", entry->key, section);
    else
        finding_add(findings, FINDING_WARNING, entry->place, NULL, "unknown key `%s`, ignored",
                    entry->key);
}

/* The wrong letter case is likelier than the wrong place, and that likelier than a misspelling. */
static void look_up_unknown(struct findings *findings, const struct value_entry *entry,
                            const char *const *known, size_t n_known,
                            const char *(*section_of)(const char *key))
{
    const char *nearest = same_letters(entry->key, known, n_known);
    const char *section = !nearest && section_of ? section_of(entry->key) : NULL;

    if (!nearest && !section)
        nearest = text_nearest(entry->key, known, n_known);
    warn_of_unknown(findings, entry, nearest, section);
}

void findings_keys(struct findings *findings, const struct value *map, const char *const *known,
                   size_t n_known, bool exact, const char *(*section_of)(const char *key))
{
    if (map->kind != VALUE_MAP)
        return;
    for (size_t i = 0; i < map->n_duplicates; i++)
        finding_add(findings, FINDING_WARNING, map->duplicates[i].first, NULL,
                    "key `%s` is said again in line %u, and only that one counts",
                    map->duplicates[i].key, map->duplicates[i].second.line);
    for (size_t i = 0; i < map->n_entries; i++)
        if (!is_known(map->entries[i].key, known, n_known, exact))
            look_up_unknown(findings, &map->entries[i], known, n_known, section_of);
}

void findings_number(struct findings *findings, const struct value *value)
{
    char plain[24];
    int64_t number;

    if (value_to_i64(value, &number) < 0)
        return;
    snprintf(plain, sizeof(plain), "%" PRId64, number);
    if (value->text.len > 0 && !span_equal(value->text, span_of(plain)))
        finding_add(findings, FINDING_WARNING, value->place, NULL, "`" SPAN_FMT "` is read as %s",
                    SPAN_ARG(value->text), plain);
}
