/*
 * The reference of the differential test in src/seccomp/differential.rs: what libseccomp makes of a profile.
 * Built by that test with `cc libseccomp-reference.c -lseccomp`; no part of rundlet.
 *
 * `reference filter` reads a profile from stdin, one item a line, numbers in decimal:
 *     default WORD            the default action
 *     native TOKEN            the architecture to compile for instead of this machine's
 *     arch TOKEN              an architecture besides the native one
 *     rule WORD NAME [ARG OP A B]...
 * and writes the BPF program to stdout, in the byte order of the native architecture. An architecture or name that the library does not know is skipped, as
 * runc does. It leaves with 17 (EEXIST) when the library finds that two rules contradict each other.
 * `reference resolve` reads lines of `TOKEN NAME` and answers each with the number, which is negative where the
 * architecture has no such call (-99999 where the library has never heard of it).
 */
#include <errno.h>
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int resolve(void)
{
	char name[128];
	uint32_t token;

	while (scanf("%" SCNu32 " %127s", &token, name) == 2) {
		int number = seccomp_syscall_resolve_name_arch(token, name);
		printf("%d\n", number == __NR_SCMP_ERROR ? -99999 : number);
	}
	return 0;
}

static int filter(void)
{
	char line[4096];
	scmp_filter_ctx context = NULL;

	while (fgets(line, sizeof(line), stdin)) {
		char *save = NULL;
		char *word = strtok_r(line, " \n", &save);
		uint32_t number;

		if (!word)
			continue;
		if (sscanf(strtok_r(NULL, " \n", &save), "%" SCNu32, &number) != 1)
			return 2;
		if (!strcmp(word, "default")) {
			context = seccomp_init(number);
			if (!context)
				return 3;
		} else if (!strcmp(word, "native")) {
			if (number == seccomp_arch_native())
				continue;
			/* The other byte order may only come once this machine's has gone. */
			if (seccomp_arch_remove(context, SCMP_ARCH_NATIVE) < 0 || seccomp_arch_add(context, number) < 0)
				return 7;
		} else if (!strcmp(word, "arch")) {
			int ret = seccomp_arch_add(context, number);
			if (ret < 0 && ret != -EEXIST)
				return 4;
		} else if (!strcmp(word, "rule")) {
			char *name = strtok_r(NULL, " \n", &save);
			struct scmp_arg_cmp args[6];
			unsigned int count = 0;
			char *field;
			int call, ret;

			while ((field = strtok_r(NULL, " \n", &save)) && count < 6) {
				args[count].arg = (unsigned int)strtoul(field, NULL, 10);
				args[count].op = (enum scmp_compare)strtoul(strtok_r(NULL, " \n", &save), NULL, 10);
				args[count].datum_a = strtoull(strtok_r(NULL, " \n", &save), NULL, 10);
				args[count].datum_b = strtoull(strtok_r(NULL, " \n", &save), NULL, 10);
				count++;
			}
			call = seccomp_syscall_resolve_name(name);
			if (call == __NR_SCMP_ERROR)
				continue;
			ret = seccomp_rule_add_array(context, number, call, count, args);
			if (ret < 0) {
				fprintf(stderr, "%s: %s\n", name, strerror(-ret));
				return ret == -EEXIST ? 17 : 5;
			}
		}
	}
	return seccomp_export_bpf(context, fileno(stdout)) < 0 ? 6 : 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "resolve"))
		return resolve();
	if (argc == 2 && !strcmp(argv[1], "filter"))
		return filter();
	return 1;
}
