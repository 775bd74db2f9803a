/* Everything that takes away what hides and protects the host in /proc and /sys, or gets a view of them without it.
 *
 *   unmask [unshare] [MARKER]
 *
 * unshare   first into new namespaces of every kind, of a new user namespace: with all capabilities there
 * MARKER    a path of the host, which must not be found
 *
 * Each success is a line `got WHAT`; what merely failed is silent. The last line says how much was tried. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPEN_TREE 428
#define MOVE_MOUNT 429
#define FSOPEN 430
#define MOUNT_SETATTR 442

struct attributes {
	unsigned long long set, clear, propagation, userns;
};

static struct {
	char path[256];
	int read_only;
} targets[512];
static int target_count, tried;

static void got(int success, const char *what, const char *where)
{
	tried++;
	if (success)
		printf("got %s %s\n", what, where);
}

static int writable(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static int readable(const char *path)
{
	char byte;
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	int some = fd >= 0 && read(fd, &byte, 1) == 1;
	if (fd >= 0)
		close(fd);
	return some;
}

static void find_targets(void)
{
	char line[4096], target[256], options[256];
	FILE *table = fopen("/proc/self/mountinfo", "r");

	while (table && fgets(line, sizeof line, table))
		if (sscanf(line, "%*d %*d %*s %*s %255s %255s", target, options) == 2 && target_count < 512 &&
		    (!strncmp(target, "/proc/", 6) || !strncmp(target, "/sys/", 5) || !strcmp(target, "/sys"))) {
			strcpy(targets[target_count].path, target);
			targets[target_count++].read_only = !strncmp(options, "ro", 2);
		}
	if (table)
		fclose(table);
}

static void uncover(void)
{
	struct attributes clear = { 0, MOUNT_ATTR_RDONLY, 0, 0 };

	for (int i = 0; i < target_count; i++) {
		const char *target = targets[i].path;
		if (targets[i].read_only) {
			got(!syscall(MOUNT_SETATTR, AT_FDCWD, target, AT_RECURSIVE, &clear, sizeof clear), "setattr", target);
			got(!mount("", target, "", MS_REMOUNT | MS_BIND, ""), "remount-bind", target);
		}
		got(!mount("", target, "", MS_REMOUNT, ""), "remount", target);
		got(!umount2(target, MNT_DETACH), "umount", target);
	}
	got(!syscall(MOUNT_SETATTR, AT_FDCWD, "/", AT_RECURSIVE, &clear, sizeof clear), "setattr", "/");
}

static void look_beneath(void)
{
	static const char *const tops[] = { "/proc", "/sys", "/" };

	mkdir("/tmp/beneath", 0700);
	for (int i = 0; i < 3; i++) {
		got(!mount(tops[i], "/tmp/beneath", "", MS_BIND, ""), "bind", tops[i]);
		long fd = syscall(OPEN_TREE, AT_FDCWD, tops[i], OPEN_TREE_CLONE);
		got(fd >= 0, "clone", tops[i]);
	}
}

static void mount_anew(int own)
{
	static const char *const kinds[] = { "proc", "sysfs", "debugfs", "tracefs", "securityfs", "configfs", "devtmpfs",
					     "efivarfs", "pstore", "bpf", "fusectl", "ext4", "selinuxfs" };
	static const char *const controllers[] = { "memory", "devices", "pids", "cpu", "cpuset", "freezer", "blkio",
						   "rdma", "misc", "none,name=new" };
	char path[128];

	mkdir("/tmp/new", 0700);
	for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		int done = !mount("none", "/tmp/new", kinds[i], 0, "");
		got(done, "mount", kinds[i]);
		if (done)
			umount2("/tmp/new", MNT_DETACH);
		/* A context can be had in a user namespace, and no mount of it. */
		long fd = !own ? syscall(FSOPEN, kinds[i], 0) : -1;
		got(fd >= 0, "fsopen", kinds[i]);
	}
	for (unsigned i = 0; i < sizeof controllers / sizeof *controllers; i++) {
		mkdir("/tmp/cgroup", 0700);
		if (mount("none", "/tmp/cgroup", "cgroup", 0, controllers[i])) {
			tried++;
			continue;
		}
		/* CVE-2022-0492: in namespaces of its own a container may mount one; it must not name the host a program. */
		got(!own, "mount cgroup", controllers[i]);
		static const char *const files[] = { "release_agent", "devices.allow" };
		for (int j = 0; j < 2; j++) {
			snprintf(path, sizeof path, "/tmp/cgroup/%s", files[j]);
			int fd = open(path, O_WRONLY | O_CLOEXEC);
			got(fd >= 0 && write(fd, j ? "a" : "/tmp/agent", j ? 1 : 10) > 0, "write", path);
		}
		umount2("/tmp/cgroup", MNT_DETACH);
	}
	int done = !mount("none", "/tmp/cgroup", "cgroup2", 0, "");
	got(done && !own, "mount", "cgroup2");
	if (done)
		umount2("/tmp/cgroup", MNT_DETACH);
}

static void touch(void)
{
	static const char *const write_to[] = {
		"/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug",
		"/proc/sys/kernel/poweroff_cmd", "/proc/sys/kernel/sysrq", "/proc/sys/kernel/ns_last_pid", "/proc/sys/fs/suid_dumpable",
		"/proc/sys/vm/drop_caches", "/proc/sys/vm/panic_on_oom", "/proc/sys/fs/binfmt_misc/register", "/proc/irq/default_smp_affinity",
		"/proc/kcore", "/proc/mtrr", "/proc/scsi/scsi", "/proc/acpi/wakeup", "/proc/timer_stats", "/sys/kernel/uevent_helper",
		"/sys/power/state", "/sys/power/disk", "/sys/kernel/mm/ksm/run", "/sys/kernel/kexec_loaded", "/sys/kernel/profiling",
		"/sys/fs/cgroup/release_agent", "/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/memory/memory.limit_in_bytes",
		"/sys/fs/cgroup/memory/cgroup.procs", "/sys/fs/cgroup/devices/devices.allow", "/sys/fs/cgroup/memory.max",
		"/sys/fs/cgroup/cgroup.procs", "/sys/module/kernel/parameters/panic", "/sys/bus/pci/rescan", "/sys/class/block",
		"/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/loop-control", "/dev/fuse",
	};
	static const char *const read_of[] = {
		"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/latency_stats",
		"/proc/kmsg", "/proc/interrupts", "/proc/1/root/proc/kcore", "/proc/self/root/proc/kcore", "/proc/self/cwd/../proc/kcore",
		"/proc/self/task/1/root/proc/keys", "/dev/core", "/sys/kernel/notes/../../firmware/memmap", "/proc/vmcore",
	};

	for (unsigned i = 0; i < sizeof write_to / sizeof *write_to; i++)
		got(writable(write_to[i]), "write", write_to[i]);
	for (unsigned i = 0; i < sizeof read_of / sizeof *read_of; i++)
		got(readable(read_of[i]), "read", read_of[i]);
}

static void climb(const char *marker)
{
	char path[1024];
	struct stat found;

	mkdir("/tmp/root", 0700);
	int here = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!chroot("/tmp/root") && !fchdir(here)) {
		for (int i = 0; i < 64; i++)
			if (chdir(".."))
				break;
		if (chroot("."))
			exit(3);
	}
	snprintf(path, sizeof path, "/%s", marker);
	got(!stat(path, &found), "climbed", marker);
	snprintf(path, sizeof path, "/proc/1/root/%s", marker);
	got(!stat(path, &found), "climbed", path);
	if (chdir("/"))
		exit(4);
}

static void try_unshare(const char *kind, int flag)
{
	int status, child = fork();

	if (!child)
		_exit(unshare(flag) ? 1 : 0);
	waitpid(child, &status, 0);
	got(status == 0, "unshare", kind);
}

static int map_root(int uid, int gid)
{
	char users[32], groups[32];
	struct { const char *file, *text; } maps[] = {
		{ "/proc/self/setgroups", "deny" }, { "/proc/self/uid_map", users }, { "/proc/self/gid_map", groups },
	};

	snprintf(users, sizeof users, "0 %d 1", uid);
	snprintf(groups, sizeof groups, "0 %d 1", gid);
	for (int i = 0; i < 3; i++) {
		int fd = open(maps[i].file, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, maps[i].text, strlen(maps[i].text)) < 0)
			return 0;
		close(fd);
	}
	return 1;
}

int main(int count, char **words)
{
	int own = count > 1 && !strcmp(words[1], "unshare");
	const char *marker = words[count - 1];

	setvbuf(stdout, 0, _IOLBF, 0);
	if (own) {
		int uid = getuid(), gid = getgid();
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)) {
			printf("no namespaces: %s\n", strerror(errno));
			return 1;
		}
		if (!map_root(uid, gid)) {
			printf("no map: %s\n", strerror(errno));
			return 1;
		}
		int child = fork(), status;
		if (child) {
			waitpid(child, &status, 0);
			return WEXITSTATUS(status);
		}
	} else {
		try_unshare("user", CLONE_NEWUSER);
		try_unshare("mount", CLONE_NEWNS);
		try_unshare("cgroup", CLONE_NEWCGROUP);
	}
	find_targets();
	touch();
	mount_anew(own);
	look_beneath();
	uncover();
	touch();
	climb(marker);
	printf("tried %d\n", tried);
	return 0;
}
