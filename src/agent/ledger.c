#include "agent/ledger.h"

#include "base/mem.h"

void ledger_done(struct ledger *ledger)
{
    struct map_entry *entry;

    for (size_t at = 0; (entry = map_next(&ledger->map, &at));)
        mem_free(entry->value);
    map_done(&ledger->map);
}

void ledger_note(struct ledger *ledger, const char *id, uint64_t now_ns)
{
    struct ledger_entry *entry = map_get(&ledger->map, id);

    if (!entry) {
        entry = mem_alloc(sizeof(*entry));
        if (!entry || map_set(&ledger->map, id, entry) < 0) {
            mem_free(entry);
            return;
        }
    }
    entry->last_ns = now_ns;
    entry->n++;
}

const struct ledger_entry *ledger_find(const struct ledger *ledger, const char *id)
{
    return map_get(&ledger->map, id);
}

void ledger_keep(struct ledger *ledger, bool (*exists)(void *user, const char *id), void *user)
{
    struct map_entry *entry;

    for (size_t at = 0; (entry = map_next(&ledger->map, &at));)
        if (!exists(user, entry->key))
            mem_free(map_remove(&ledger->map, entry->key));
}
