/*
 * The verbs of the program, one file each (verb_NAME.c). argv[0] is the verb's own name; what is
 * returned is the exit code: 0 done, 1 failed, 2 misused.
 */
#pragma once

int verb_agent(int argc, char **argv);
int verb_check(int argc, char **argv);
int verb_describe(int argc, char **argv);
int verb_get(int argc, char **argv);
int verb_mig(int argc, char **argv);
int verb_sim(int argc, char **argv);
int verb_try(int argc, char **argv);
