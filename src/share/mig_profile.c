#include "share/mig_profile.h"

#include <errno.h>
#include <stdio.h>

/* In order of NVML's enums: spec/mig §1.2. Profile 9 is 1g with twice the memory; only the number
 * in its name tells. */
static const struct {
    uint8_t slices, attributes;
} gi_profiles[MIG_GI_PROFILES] = {
    { 1, 0 },
    { 2, 0 },
    { 3, 0 },
    { 4, 0 },
    { 7, 0 },
    { 8, 0 },
    { 6, 0 },
    { 1, MIG_ATTR_ME },
    { 2, MIG_ATTR_ME },
    { 1, 0 },
    { 1, MIG_ATTR_GFX },
    { 2, MIG_ATTR_GFX },
    { 4, MIG_ATTR_GFX },
    { 1, MIG_ATTR_NO_ME },
    { 2, MIG_ATTR_NO_ME },
    { 1, MIG_ATTR_ME_ALL },
    { 2, MIG_ATTR_ME_ALL },
    { 3, MIG_ATTR_GFX },
};

static const uint8_t ci_profiles[MIG_CI_PROFILES] = { 1, 2, 3, 4, 7, 8, 6, 1, 7 };

/* What stands behind the sign, in the order in which a name lists it. */
static const struct {
    unsigned bit;
    char sign;
    const char *name;
} attributes[] = {
    { MIG_ATTR_ME, '+', "me" },
    { MIG_ATTR_ME_ALL, '+', "me.all" },
    { MIG_ATTR_GFX, '+', "gfx" },
    { MIG_ATTR_NO_ME, '-', "me" },
};

uint32_t mig_gi_profile_slices(uint32_t gi_profile)
{
    return gi_profile < MIG_GI_PROFILES ? gi_profiles[gi_profile].slices : 0;
}

uint32_t mig_ci_profile_slices(uint32_t ci_profile)
{
    return ci_profile < MIG_CI_PROFILES ? ci_profiles[ci_profile] : 0;
}

/* ---- from NVML's numbers ---- */

/* Of a number that is not negative. By hand, because for this alone the mathematics library would
 * cost each of our programs half a megabyte and a tenth of its start. */
static double whole_part(double number)
{
    return number < 0x1p53 ? (double)(uint64_t)number : number; /* above there are no fractions */
}

static double round_up(double number)
{
    double whole = whole_part(number);

    return whole < number ? whole + 1 : whole;
}

static double round_half_up(double number)
{
    double whole = whole_part(number);

    return number - whole >= 0.5 ? whole + 1 : whole;
}

/* spec/mig §1.6: the share of the GPU's memory, rounded up to eighths, of its size in whole GiB.
 * In doubles, as NVIDIA's tools do it: the last bit decides some names. */
static double memory_gb(uint64_t memory_mib, uint64_t total_bytes)
{
    double share = (double)memory_mib * (double)MIB(1) / (double)total_bytes;
    double eighths = round_up(share * 8) / 8;
    uint64_t gib = total_bytes / MIB(1024) + (total_bytes % MIB(1024) != 0);

    return round_half_up(eighths * (double)gib);
}

int mig_profile_make(uint32_t gi_profile, uint32_t ci_profile, uint64_t memory_mib,
                     uint64_t total_bytes, struct mig_profile *ret, struct err *err)
{
    if (gi_profile >= MIG_GI_PROFILES)
        return err_set(err, EINVAL, "invalid GPU Instance Profile ID: %u", gi_profile);
    if (ci_profile >= MIG_CI_PROFILES)
        return err_set(err, EINVAL, "invalid Compute Instance Profile ID: %u", ci_profile);
    if (total_bytes == 0)
        return err_set(err, EINVAL, "cannot name a MIG profile: the GPU's memory size is unknown");
    double gb = memory_gb(memory_mib, total_bytes);
    if (gb > UINT32_MAX)
        return err_set(err, EINVAL, "a MIG profile of %.0f GB cannot be", gb);
    *ret = (struct mig_profile){
        .c = ci_profiles[ci_profile],
        .g = gi_profiles[gi_profile].slices,
        .gb = (uint32_t)gb,
        .attributes = gi_profiles[gi_profile].attributes,
    };
    return 0;
}

/* ---- to a name ---- */

/* Lists the attributes with this sign; none: "". */
static void list_attributes(unsigned bits, char sign, char *text, size_t size)
{
    size_t len = 0;

    text[0] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(attributes); i++)
        if (attributes[i].sign == sign && bits & attributes[i].bit)
            len += (size_t)snprintf(text + len, size - len, "%c%s", len ? ',' : sign,
                                    attributes[i].name);
}

void mig_profile_name(const struct mig_profile *profile, char name[static MIG_PROFILE_NAME_MAX])
{
    char compute[16] = "", suffix[24];

    if (profile->c != profile->g)
        snprintf(compute, sizeof(compute), "%uc.", profile->c);
    list_attributes(profile->attributes, '-', suffix, sizeof(suffix));
    if (!suffix[0])
        list_attributes(profile->attributes, '+', suffix, sizeof(suffix));
    snprintf(name, MIG_PROFILE_NAME_MAX, "%s%ug.%ugb%s", compute, profile->g, profile->gb, suffix);
}

void mig_profile_resource_form(const char *name, char form[static MIG_PROFILE_NAME_MAX])
{
    size_t i = 0;

    for (; name[i] && i < MIG_PROFILE_NAME_MAX - 1; i++)
        form[i] = name[i] == '+' ? '.' : name[i];
    form[i] = '\0';
}

/* ---- from a name ---- */

/* "40gb" with unit "gb". A number that no profile has is noted, not refused: its form is right. */
static int parse_field(struct span field, const char *unit, uint32_t *ret, bool *absurd)
{
    size_t n_unit = strlen(unit);
    uint64_t number;

    if (field.len < n_unit || memcmp(field.ptr + field.len - n_unit, unit, n_unit) != 0)
        return -EINVAL;
    field.len -= n_unit;
    int r = text_to_u64(field, &number);
    if (r == -EINVAL)
        return r;
    if (r < 0 || number > UINT32_MAX)
        *absurd = true;
    else
        *ret = (uint32_t)number;
    return 0;
}

/* "3g.40gb" or "1c.3g.40gb". */
static int parse_base(struct span base, struct mig_profile *profile, bool *absurd)
{
    struct span fields[3];
    size_t n = 0;
    bool more = true;

    while (n < ARRAY_LEN(fields) && span_split(&base, '.', &more, &fields[n]))
        n++;
    if (n < 2 || more)
        return -EINVAL;
    if (parse_field(fields[n - 2], "g", &profile->g, absurd) < 0 ||
        parse_field(fields[n - 1], "gb", &profile->gb, absurd) < 0)
        return -EINVAL;
    if (n == 3)
        return parse_field(fields[0], "c", &profile->c, absurd);
    profile->c = profile->g;
    return 0;
}

static bool is_attribute(struct span text)
{
    if (text.len == 0 || (text.ptr[0] >= '0' && text.ptr[0] <= '9') || text.ptr[0] == '.' ||
        text.ptr[text.len - 1] == '.')
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c != '.' && !(c >= '0' && c <= '9') && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))
            return false;
    }
    return true;
}

/* Is this attribute among those before it? A name is short, so looking back is cheap. */
static bool is_repeated(struct span list, struct span attribute)
{
    struct span part;
    bool more = true;

    while (span_split(&list, ',', &more, &part) && part.ptr < attribute.ptr)
        if (span_equal(part, attribute))
            return true;
    return false;
}

static unsigned attribute_bit(struct span name, char sign)
{
    for (size_t i = 0; i < ARRAY_LEN(attributes); i++)
        if (attributes[i].sign == sign && span_equal(name, span_of(attributes[i].name)))
            return attributes[i].bit;
    return 0;
}

static int parse_attributes(struct span list, char sign, struct mig_profile *profile,
                            struct span *unknown)
{
    struct span rest = list, part;
    bool more = true;

    while (span_split(&rest, ',', &more, &part)) {
        if (!is_attribute(part) || is_repeated(list, part))
            return -EINVAL;
        unsigned bit = attribute_bit(part, sign);
        if (!bit && unknown->len == 0)
            *unknown = part;
        profile->attributes |= bit;
    }
    return 0;
}

static const char *find_sign(struct span name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] == '+' || name.ptr[i] == '-')
            return name.ptr + i;
    return NULL;
}

int mig_profile_parse(struct span name, struct mig_profile *ret, struct err *err)
{
    struct mig_profile profile = {};
    struct span base = name, unknown = {};
    bool absurd = false;

    if (name.len == 0)
        return err_set(err, EINVAL, "a MIG profile's name cannot be empty");
    if (name.len >= MIG_PROFILE_NAME_MAX)
        return err_set(err, EINVAL, "'%.20s…' is too long for the name of a MIG profile", name.ptr);
    if (memchr(name.ptr, '+', name.len) && memchr(name.ptr, '-', name.len))
        return err_set(err, EINVAL, "profile '" SPAN_FMT "' contains both '+/-' attributes",
                       SPAN_ARG(name));
    const char *sign = find_sign(name);
    if (sign)
        base.len = (size_t)(sign - name.ptr);
    if (parse_base(base, &profile, &absurd) < 0)
        return err_set(err, EINVAL,
                       "cannot parse fields of '" SPAN_FMT "': want 1g.10gb or 1c.3g.40gb",
                       SPAN_ARG(name));
    if (sign) {
        struct span list = { .ptr = sign + 1, .len = name.len - base.len - 1 };
        if (parse_attributes(list, *sign, &profile, &unknown) < 0)
            return err_set(err, EINVAL,
                           "cannot parse attributes of '" SPAN_FMT "': want names with a comma "
                           "between them, each once",
                           SPAN_ARG(name));
    }
    if (unknown.len > 0)
        return err_set(err, ENOENT, "no GPU has the attribute '" SPAN_FMT "' of '" SPAN_FMT "'",
                       SPAN_ARG(unknown), SPAN_ARG(name));
    if (absurd)
        return err_set(err, ENOENT, "no GPU has a profile '" SPAN_FMT "'", SPAN_ARG(name));
    *ret = profile;
    return 0;
}

bool mig_profile_equal(const struct mig_profile *a, const struct mig_profile *b)
{
    return a->c == b->c && a->g == b->g && a->gb == b->gb && a->attributes == b->attributes;
}
