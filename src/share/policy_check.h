/*
 * A ClusterPolicy's `spec` against the list of fields in policy_fields.def: types, words, and names
 * that are nearly right. The API server knows the same rules, but has no line numbers and drops
 * what it does not know without a word.
 */
#pragma once

#include "share/finding.h"

void policy_check(struct findings *findings, const struct value *spec);
