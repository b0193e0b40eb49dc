/*
 * When each device was last given to a container, since this process started. The kubelet tells
 * nobody when a container lets go of its devices, so this says who got a device, not who has it.
 */
#pragma once

#include "base/base.h"
#include "base/map.h"

struct ledger {
    struct map map; /* device id -> struct ledger_entry */
};

struct ledger_entry {
    uint64_t last_ns; /* on the loop's clock */
    uint64_t n;       /* how many times so far */
};

void ledger_done(struct ledger *ledger);
/* Without memory the note is lost. */
void ledger_note(struct ledger *ledger, const char *id, uint64_t now_ns);
/* NULL when the device was never given away; borrowed until the next note. */
const struct ledger_entry *ledger_find(const struct ledger *ledger, const char *id);
/* Forgets devices that do not exist any more, so that the ledger cannot grow for ever. */
void ledger_keep(struct ledger *ledger, bool (*exists)(void *user, const char *id), void *user);
