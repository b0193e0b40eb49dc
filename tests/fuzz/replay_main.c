/*
 * A fuzzer without its engine: runs it over files, or over every file of a folder, in order. So
 * that builds without libFuzzer still walk every road that a fuzzer once found.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(64));
    struct span content;
    struct err err = {};

    if (file_read(AT_FDCWD, path, MIB(16), &arena, &content, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    /* A copy of just its size, so that a byte too far is noticed. */
    auto_free char *exact = malloc(content.len ? content.len : 1);
    if (!exact)
        return -1;
    memcpy(exact, content.ptr, content.len);
    printf("%s\n", path);
    fflush(stdout);
    LLVMFuzzerTestOneInput((const uint8_t *)exact, content.len);
    return 1;
}

/* How many inputs there were, or -1. */
static int replay_folder(const char *path)
{
    struct dirent **entries;
    int n = scandir(path, &entries, NULL, alphasort), count = 0;

    for (int i = 0; i < n; i++) {
        auto_free struct dirent *entry = entries[i];
        char file[4096];
        snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
        if (count >= 0 && entry->d_name[0] != '.')
            count = replay_file(file) < 0 ? -1 : count + 1;
    }
    if (n >= 0)
        free(entries);
    return n < 0 ? -1 : count;
}

int main(int argc, char **argv)
{
    int count = 0;

    for (int i = 1; i < argc; i++) {
        struct stat st;
        bool folder = stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode);
        int n = folder ? replay_folder(argv[i]) : replay_file(argv[i]);
        if (n < 0)
            return 1;
        count += n;
    }
    printf("%d inputs\n", count);
    return count > 0 ? 0 : 1; /* an empty corpus proves nothing */
}
