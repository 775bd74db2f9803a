/* System calls that a container has no business with, each as an attacker would make it.
 *
 *   calls NAME …        prints "NAME ok" or "NAME EPERM" and so on, a line each; `calls` alone: all of them
 *
 * Made by number, past any library. What succeeds is undone, or ends with this process; nothing is asked for that would
 * hurt the machine if it were granted: a module that is none, a reboot with a wrong magic, the time as it is. */

#define _GNU_SOURCE
#include <asm/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef __NR_mount_setattr
#define __NR_mount_setattr 442
#endif
#ifndef __NR_quotactl_fd
#define __NR_quotactl_fd 443
#endif
#ifndef __NR_memfd_secret
#define __NR_memfd_secret 447
#endif
#ifndef __NR_open_tree_attr
#define __NR_open_tree_attr 467
#endif
#define KEYCTL_JOIN_SESSION_KEYRING 1

static long unshare_user(void) { return syscall(__NR_unshare, CLONE_NEWUSER); }
static long unshare_mount(void) { return syscall(__NR_unshare, CLONE_NEWNS); }
static long unshare_all(void) { return syscall(__NR_unshare, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID); }

static long cloned(long pid)
{
	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid((int)pid, 0, __WALL);
	return pid;
}

static long clone_user(void) { return cloned(syscall(__NR_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)); }
static long clone_mount(void) { return cloned(syscall(__NR_clone, CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0)); }
static long clone3_user(void)
{
	uint64_t request[11] = { CLONE_NEWUSER, 0, 0, 0, SIGCHLD };
	return cloned(syscall(__NR_clone3, request, sizeof request));
}
static long clone3_plain(void)
{
	uint64_t request[11] = { 0, 0, 0, 0, SIGCHLD };
	return cloned(syscall(__NR_clone3, request, sizeof request));
}

static long setns_own(void)
{
	int fd = open("/proc/self/ns/mnt", O_RDONLY);
	return syscall(__NR_setns, fd, CLONE_NEWNS);
}

static long mount_tmpfs(void)
{
	long done = syscall(__NR_mount, "none", "/mnt", "tmpfs", 0, "");
	if (done == 0)
		umount2("/mnt", MNT_DETACH);
	return done;
}
static long mount_proc(void)
{
	long done = syscall(__NR_mount, "none", "/mnt", "proc", 0, "");
	if (done == 0)
		umount2("/mnt", MNT_DETACH);
	return done;
}
static long mount_bind(void) { return syscall(__NR_mount, "/proc/sys", "/mnt", "", MS_BIND, ""); }
static long remount_sys(void) { return syscall(__NR_mount, "none", "/proc/sys", "", MS_REMOUNT | MS_BIND, ""); }
static long umount_masked(void) { return syscall(__NR_umount2, "/proc/kcore", MNT_DETACH); }
static long pivot(void) { return syscall(__NR_pivot_root, "/mnt", "/mnt"); }
static long fsopen_tmpfs(void) { return syscall(__NR_fsopen, "tmpfs", 0); }
static long fspick_root(void) { return syscall(__NR_fspick, AT_FDCWD, "/proc/sys", 0); }
static long open_tree_clone(void) { return syscall(__NR_open_tree, AT_FDCWD, "/proc", 1 /* clone */); }
static long move_mount_proc(void) { return syscall(__NR_move_mount, AT_FDCWD, "/proc/kcore", AT_FDCWD, "/tmp", 0); }
static long fsmount_none(void) { return syscall(__NR_fsmount, -1, 0, 0); }
static long fsconfig_none(void) { return syscall(__NR_fsconfig, -1, 6, 0, 0, 0); }
static long setattr_sys(void)
{
	uint64_t change[4] = { 0, 1 /* read-only off */, 0, 0 };
	return syscall(__NR_mount_setattr, AT_FDCWD, "/proc/sys", 0, change, sizeof change);
}

static long bpf_map(void)
{
	union bpf_attr map;
	memset(&map, 0, sizeof map);
	map.map_type = BPF_MAP_TYPE_ARRAY;
	map.key_size = map.value_size = 4;
	map.max_entries = 1;
	return syscall(__NR_bpf, BPF_MAP_CREATE, &map, sizeof map);
}
static long perf(void)
{
	struct perf_event_attr event;
	memset(&event, 0, sizeof event);
	event.type = PERF_TYPE_SOFTWARE;
	event.size = sizeof event;
	event.config = PERF_COUNT_SW_CPU_CLOCK;
	return syscall(__NR_perf_event_open, &event, 0, -1, -1, 0);
}
static long kexec(void) { return syscall(__NR_kexec_load, 0, 0, 0, 0); }
static long kexec_file(void) { return syscall(__NR_kexec_file_load, -1, -1, 0, 0, 0); }
static long module(void) { return syscall(__NR_init_module, "none", 4, ""); }
static long module_file(void) { return syscall(__NR_finit_module, -1, "", 0); }
static long module_away(void) { return syscall(__NR_delete_module, "no-such-module", O_NONBLOCK); }
static long reboot_nothing(void) { return syscall(__NR_reboot, 0, 0, 0, 0); }
static long swap_on(void) { return syscall(__NR_swapon, "/nowhere", 0); }
static long swap_off(void) { return syscall(__NR_swapoff, "/nowhere"); }
static long accounting(void) { return syscall(__NR_acct, "/nowhere"); }
static long quota(void) { return syscall(__NR_quotactl, 0x80000100 /* sync */, 0, 0, 0); }
static long quota_fd(void) { return syscall(__NR_quotactl_fd, -1, 0, 0, 0); }
static long time_of_day(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return syscall(__NR_clock_settime, CLOCK_REALTIME, &now);
}
static long host_name(void) { return syscall(__NR_sethostname, "attacker", 8); }
static long kernel_log(void)
{
	char text[64];
	return syscall(__NR_syslog, 3 /* read all */, text, sizeof text);
}
static long handle_open(void)
{
	struct { unsigned size; int type; unsigned char handle[8]; } handle = { 8, 1, { 2 } };
	return syscall(__NR_open_by_handle_at, AT_FDCWD, &handle, O_RDONLY);
}
static long fault(void) { return syscall(__NR_userfaultfd, 0); }
static long fault_user(void) { return syscall(__NR_userfaultfd, 1 /* user mode only */); }
static long ring(void)
{
	unsigned char parameters[120] = { 0 };
	return syscall(__NR_io_uring_setup, 1, parameters);
}
static long keyring_join(void) { return syscall(__NR_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0); }
static long key_add(void) { return syscall(__NR_add_key, "user", "attack", "x", 1, -3 /* session */); }
static long key_request(void) { return syscall(__NR_request_key, "user", "attack", 0, 0); }
static long pages_move(void) { return syscall(__NR_move_pages, 0, 0, 0, 0, 0, 0); }
static long numa(void) { return syscall(__NR_mbind, 0, 0, 0, 0, 0, 0); }
static long personality_set(void) { return syscall(__NR_personality, 0x0040000 /* no randomization */); }
static long fanotify(void) { return syscall(__NR_fanotify_init, 0x4 /* content class */, O_RDONLY); }
static long nice_up(void) { return syscall(__NR_setpriority, 0, 0, -20); }
#ifdef __x86_64__
static long ports(void) { return syscall(__NR_ioperm, 0x80, 1, 1); }
static long all_ports(void) { return syscall(__NR_iopl, 3); }
static long descriptors_table(void)
{
	unsigned entry[4] = { 0, 0, 0, 0 };
	return syscall(__NR_modify_ldt, 1, entry, sizeof entry);
}
#endif
static long cookie(void) { return syscall(__NR_lookup_dcookie, 0, 0, 0); }
static long vm_splice_old(void) { return syscall(__NR_nfsservctl, 0, 0, 0); }
static long compare(void) { return syscall(__NR_kcmp, getpid(), getpid(), 0, 0, 0); }

static const struct {
	const char *name;
	long (*call)(void);
} CALLS[] = {
	{ "unshare-user", unshare_user }, { "unshare-mount", unshare_mount }, { "unshare-all", unshare_all },
	{ "clone-user", clone_user }, { "clone-mount", clone_mount }, { "clone3-user", clone3_user },
	{ "clone3", clone3_plain }, { "setns", setns_own },
	{ "mount-tmpfs", mount_tmpfs }, { "mount-proc", mount_proc }, { "mount-bind", mount_bind },
	{ "remount", remount_sys }, { "umount", umount_masked }, { "pivot_root", pivot },
	{ "fsopen", fsopen_tmpfs }, { "fspick", fspick_root }, { "open_tree", open_tree_clone },
	{ "move_mount", move_mount_proc }, { "fsmount", fsmount_none }, { "fsconfig", fsconfig_none },
	{ "mount_setattr", setattr_sys },
	{ "bpf", bpf_map }, { "perf_event_open", perf }, { "kexec_load", kexec }, { "kexec_file_load", kexec_file },
	{ "init_module", module }, { "finit_module", module_file }, { "delete_module", module_away },
	{ "reboot", reboot_nothing }, { "swapon", swap_on }, { "swapoff", swap_off }, { "acct", accounting },
	{ "quotactl", quota }, { "quotactl_fd", quota_fd }, { "clock_settime", time_of_day },
	{ "sethostname", host_name }, { "syslog", kernel_log },
	{ "open_by_handle_at", handle_open }, { "userfaultfd", fault }, { "userfaultfd-user", fault_user },
	{ "io_uring_setup", ring }, { "keyctl", keyring_join }, { "add_key", key_add }, { "request_key", key_request },
	{ "move_pages", pages_move }, { "mbind", numa }, { "personality", personality_set },
	{ "fanotify_init", fanotify }, { "setpriority", nice_up }, { "kcmp", compare },
	{ "lookup_dcookie", cookie }, { "nfsservctl", vm_splice_old },
#ifdef __x86_64__
	{ "ioperm", ports }, { "iopl", all_ports }, { "modify_ldt", descriptors_table },
#endif
};

int main(int count, char **names)
{
	for (unsigned i = 0; i < sizeof CALLS / sizeof *CALLS; i++) {
		int wanted = count == 1;
		for (int j = 1; j < count; j++)
			wanted |= !strcmp(names[j], CALLS[i].name);
		if (!wanted)
			continue;
		fflush(stdout);
		/* In a child, so that one call does not change what the next may do. */
		pid_t pid = fork();
		if (pid == 0) {
			errno = 0;
			long done = CALLS[i].call();
			printf("%s %s\n", CALLS[i].name, done < 0 ? strerrorname_np(errno) : "ok");
			fflush(stdout);
			_exit(0);
		}
		int status;
		waitpid(pid, &status, 0);
		if (WIFSIGNALED(status))
			printf("%s signal %d\n", CALLS[i].name, WTERMSIG(status));
	}
	return 0;
}
