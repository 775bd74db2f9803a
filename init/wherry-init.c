/* wherry-init: the only program of wherry that runs inside a container's pid namespace.
 *
 * It is executed from a sealed memory file, reads one blob (whose layout is `struct blob` here, and is packed by
 * wherry_native_exec/blob.py), and makes one process of it:
 *
 *   start, own pid namespace      A: cgroup ── clone ──▶ 1: mounts, streams, drop, barrier, execve
 *   start, host's or joined       A: cgroup, mounts, streams, drop ── clone ──▶ 1: barrier, execve
 *   exec                          A: cgroup, namespaces, streams, drop ── clone ──▶ the process: barrier, execve
 *
 * In a user namespace it is the same, entered after the mounts; with a pid namespace of its own, which has to belong to
 * it, there is one more:
 *
 *   A: cgroup ── clone ──▶ B: user namespace ── clone ──▶ 1: waits … copies the mounts, streams, drop, barrier, execve
 *      └─ mounts, for 1 to copy ─────────────────────────────┘
 *
 * A is the child of the keeper. What it clones is too (CLONE_PARENT), so that the keeper gets its exit status. Whoever
 * enters a pid namespace where others live has dropped everything before, and is not dumpable: nobody there can take
 * from it what they do not have. That is also why it is this program, and not a fork of the keeper with all its memory.
 *
 * To the keeper it talks over one socket, `control`, in messages of 16 bytes (`struct report`); the keeper answers one
 * byte, which opens the barrier. Being close-on-exec, the socket's end says that the program runs. What a process that
 * has entered a pid namespace says may be somebody else's words: the keeper believes it about the process only.
 *
 * No C library: it would be most of the size, and none of what is done here needs one.
 */

#include <asm/unistd.h>
#include <linux/types.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef unsigned long word;

/* ---- the blob ------------------------------------------------------------------------------------------------- */

enum { MAGIC = 0x59524857, VERSION = 2 };
enum mode { OWN, HOST, JOINED, EXEC };
enum {
	NEW_CGROUP_NAMESPACE = 1,
	TTY = 2,
	INIT = 4,
	NO_NEW_PRIVILEGES = 8,
	SEARCH = 16,		/* `paths` come from PATH: go on to the next where one is no program */
	SHARED_KEYRING = 32,	/* no session keyring of its own */
	SET_OOM = 64,
};

struct list {
	u32 offset, count;
};

struct limit {
	u64 resource, soft, hard;
};

struct attach {
	s32 fd;
	u32 target;
};

struct process_mount {		/* of a procfs */
	u32 target, attributes;
};

struct blob {
	u32 magic, version, size, mode, flags;
	s32 control, streams[3];
	s32 proc;		/* the host's /proc, O_PATH */
	s32 target;		/* exec: pidfd of process 1; joined: the pid namespace */
	s32 into;		/* cgroup of version 2 */
	s32 user;		/* the user namespace that the process starts in; -1: the host's, or an exec's */
	u32 join;		/* exec: namespaces to enter */
	u32 uid, gid;
	u32 owner;		/* what `uid` is on the host */
	u32 umask;
	s32 oom_score_adj;
	u32 last_capability;
	u32 cwd, lsm_file, lsm_value;	/* strings; 0 is none */
	struct list groups;		/* u32 */
	struct list tasks;		/* s32: `tasks` files of version 1 */
	struct list limits;		/* struct limit */
	struct list filter;		/* struct sock_filter */
	struct list argv, env, paths;	/* u64: strings; argv and env end with a 0 */
	struct list procs;		/* struct process_mount */
	struct list attach;		/* struct attach: mounts below a procfs */
	struct list masked, readonly;	/* u32: strings */
	u32 personality;
	u64 bounding, effective, permitted, inheritable, ambient;
	u64 key[2];		/* to clone by, under a filter that denies it */
};

/* ---- what is reported ------------------------------------------------------------------------------------------ */

enum step {
	S_BLOB = 1, S_CGROUP, S_CGROUP_NAMESPACE, S_JOIN, S_LIMIT, S_OOM, S_LSM, S_CLONE, S_PROC, S_ATTACH, S_MASK,
	S_READONLY, S_STREAMS, S_SESSION, S_TERMINAL, S_CWD, S_BOUNDING, S_GROUPS, S_IDS, S_NO_NEW_PRIVILEGES,
	S_SECCOMP, S_CAPABILITIES, S_CWD_OUTSIDE, S_EXECUTE, S_KEYRING, S_SCHEDULING, S_SECUREBITS,
	S_USER, S_MOUNTS,
};

struct report {
	u32 kind;		/* E error, W warning, H helper pid, P pid of the process, R ready at the barrier */
	s32 error;
	u32 step;
	s32 value;
};

/* ---- system calls ---------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
static inline long call6(long n, word a, word b, word c, word d, word e, word f)
{
	long result;
	register word r10 __asm__("r10") = d;
	register word r8 __asm__("r8") = e;
	register word r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(result)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return result;
}

__asm__(".globl _start\n_start:\n\txor %ebp,%ebp\n\tmov %rsp,%rdi\n\tand $-16,%rsp\n\tcall begin\n");
#elif defined(__aarch64__)
static inline long call6(long n, word a, word b, word c, word d, word e, word f)
{
	register long x8 __asm__("x8") = n;
	register word x0 __asm__("x0") = a;
	register word x1 __asm__("x1") = b;
	register word x2 __asm__("x2") = c;
	register word x3 __asm__("x3") = d;
	register word x4 __asm__("x4") = e;
	register word x5 __asm__("x5") = f;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory", "cc");
	return (long)x0;
}

__asm__(".globl _start\n_start:\n\tmov x29,#0\n\tmov x0,sp\n\tbl begin\n");
#else
#error "wherry-init knows x86-64 and aarch64"
#endif

#define PICK(_0, _1, _2, _3, _4, _5, _6, name, ...) name
#define SYS0(n) call6(n, 0, 0, 0, 0, 0, 0)
#define SYS1(n, a) call6(n, (word)(a), 0, 0, 0, 0, 0)
#define SYS2(n, a, b) call6(n, (word)(a), (word)(b), 0, 0, 0, 0)
#define SYS3(n, a, b, c) call6(n, (word)(a), (word)(b), (word)(c), 0, 0, 0)
#define SYS4(n, a, b, c, d) call6(n, (word)(a), (word)(b), (word)(c), (word)(d), 0, 0)
#define SYS5(n, a, b, c, d, e) call6(n, (word)(a), (word)(b), (word)(c), (word)(d), (word)(e), 0)
#define SYS6(n, a, b, c, d, e, f) call6(n, (word)(a), (word)(b), (word)(c), (word)(d), (word)(e), (word)(f))
#define sys(...) PICK(__VA_ARGS__, SYS6, SYS5, SYS4, SYS3, SYS2, SYS1, SYS0)(__VA_ARGS__)

enum { ENOENT = 2, EACCES = 13, ENOTDIR = 20, EISDIR = 21, EINVAL = 22, EAGAIN = 11, EINTR = 4, EPERM = 1, ENOSYS = 38,
       E2BIG = 7, ECHILD = 10, ENODEV = 19, ENAMETOOLONG = 36, ELOOP = 40 };
enum { AT_FDCWD = -100, AT_EMPTY_PATH = 0x1000, AT_RECURSIVE = 0x8000 };
enum { O_WRONLY = 1, O_RDWR = 2, O_NOCTTY = 0400, O_CLOEXEC = 02000000, O_PATH = 010000000 };
#if defined(__aarch64__)
enum { O_NOFOLLOW = 0100000 };
#else
enum { O_NOFOLLOW = 0400000 };
#endif
enum { SIGKILL = 9, SIGCHLD = 17, SIGSTOP = 19, SIGTTIN = 21, SIGTTOU = 22, SIGNALS = 64 };
enum { CLONE_FILES = 0x400, CLONE_PARENT = 0x8000, CLONE_NEWNS = 0x20000, CLONE_NEWCGROUP = 0x2000000,
       CLONE_NEWUSER = 0x10000000, CLONE_NEWPID = 0x20000000 };
#define CLONE_INTO_CGROUP 0x200000000ULL
enum { PR_SET_PDEATHSIG = 1, PR_SET_DUMPABLE = 4, PR_SET_KEEPCAPS = 8, PR_SET_NAME = 15, PR_CAPBSET_READ = 23,
       PR_CAPBSET_DROP = 24, PR_SET_TSC = 26, PR_GET_SECUREBITS = 27, PR_SET_SECUREBITS = 28, PR_SET_TIMERSLACK = 29,
       PR_MCE_KILL = 33, PR_SET_NO_NEW_PRIVS = 38, PR_SET_THP_DISABLE = 41, PR_CAP_AMBIENT = 47, PR_SET_IO_FLUSHER = 57,
       PR_SET_MEMORY_MERGE = 67 };
enum { PR_CAP_AMBIENT_RAISE = 2, PR_CAP_AMBIENT_CLEAR_ALL = 4 };
enum { FSCONFIG_SET_STRING = 1, FSCONFIG_SET_FD = 5, FSCONFIG_CMD_CREATE = 6 };
enum { MOVE_EMPTY_FROM = 0x4, MOVE_EMPTY_TO = 0x40, MOUNT_RDONLY = 1, OPEN_TREE_CLONE = 1 };
enum { RESOLVE_NO_MAGICLINKS = 2 };
enum { F_DUPFD_CLOEXEC = 1030, TIOCSCTTY = 0x540E, TIOCSPGRP = 0x5410, WNOHANG = 1, WALL = 0x40000000 };
enum { S_IFMT = 0170000, S_IFDIR = 0040000, S_IFCHR = 0020000, S_IFIFO = 0010000, S_IFSOCK = 0140000 };

struct statx_time { __s64 seconds; u32 nanoseconds; s32 reserved; };
struct statx {
	u32 mask, block_size;
	u64 attributes;
	u32 links, uid, gid;
	u16 mode, spare0;
	u64 inode, size, blocks, attributes_mask;
	struct statx_time times[4];
	u32 rdev_major, rdev_minor, dev_major, dev_minor;
	u64 spare[14];
};
struct open_how { u64 flags, mode, resolve; };
struct mount_attributes { u64 set, clear, propagation, userns; };

/* The compiler may call these on its own. */
void *memset(void *target, int byte, word size)
{
	u8 *at = target;
	while (size--)
		*at++ = (u8)byte;
	return target;
}

void *memcpy(void *target, const void *source, word size)
{
	u8 *to = target;
	const u8 *from = source;
	while (size--)
		*to++ = *from++;
	return target;
}

static struct blob *blob;
static int control = -1;

static void *at(u32 offset)
{
	return (u8 *)blob + offset;
}

static word length(const char *text)
{
	word size = 0;
	while (text[size])
		size++;
	return size;
}

static void leave(int status) __attribute__((noreturn));
static void leave(int status)
{
	sys(__NR_exit_group, status);
	/* A filter denies even that: a fault ends who cannot end himself. */
	__builtin_trap();
}

static void tell(u32 kind, long error, u32 step, long value)
{
	struct report report = { kind, (s32)error, step, (s32)value };
	sys(__NR_write, control, &report, sizeof report);
}

static void fail(enum step step, long result) __attribute__((noreturn));
static void fail(enum step step, long result)
{
	tell('E', -result, step, 0);
	leave(1);
}

static long must(enum step step, long result)
{
	if (result < 0)
		fail(step, result);
	return result;
}

static int is_kind(int fd, const char *path, u32 kind, struct statx *found)
{
	struct statx here;
	struct statx *answer = found ? found : &here;
	if (sys(__NR_statx, fd, path, path[0] ? 0 : AT_EMPTY_PATH, 0x7ff, answer) < 0)
		return 0;
	return (answer->mode & S_IFMT) == kind;
}

/* ---- before anything else -------------------------------------------------------------------------------------- */

static void read_blob(char **environment)
{
	struct statx found;
	int fd = 0;
	const char *text = environment[0];

	if (!text || text[0] != 'W' || text[1] != '=')
		leave(120);
	for (text += 2; *text >= '0' && *text <= '9'; text++)
		fd = fd * 10 + (*text - '0');
	if (sys(__NR_statx, fd, "", AT_EMPTY_PATH, 0x7ff, &found) < 0 || found.size < sizeof(struct blob))
		leave(120);
	long address = sys(__NR_mmap, 0, found.size, 3 /* read, write */, 2 /* private */, fd, 0);
	if (address < 0 && address > -4096)
		leave(120);
	sys(__NR_close, fd);
	blob = (struct blob *)address;
	if (blob->magic != MAGIC || blob->version != VERSION || blob->size != found.size)
		leave(121);
	control = blob->control;
	struct list *strings[] = { &blob->argv, &blob->env, &blob->paths };
	for (u32 i = 0; i < 3; i++) {
		u64 *slots = at(strings[i]->offset);
		for (u32 j = 0; j < strings[i]->count; j++)
			slots[j] = slots[j] ? (u64)at((u32)slots[j]) : 0;
	}
}

/* A child of Python inherits an ignored SIGPIPE; a keeper blocks more. Nothing of that is the container's. */
static void reset_signals(void)
{
	u64 none = 0;
	struct { word handler, flags, restorer, mask; } action = { 0, 0, 0, 0 };

	for (int number = 1; number <= SIGNALS; number++)
		if (number != SIGKILL && number != SIGSTOP)
			sys(__NR_rt_sigaction, number, &action, 0, sizeof none);
	sys(__NR_rt_sigprocmask, 2 /* set */, &none, 0, sizeof none);
}

static void warn(enum step step, long result)
{
	if (result < 0)
		tell('W', -result, step, 0);
}

static long write_of_self(const char *file, const char *text)
{
	long fd = sys(__NR_openat, blob->proc, file, O_WRONLY | O_CLOEXEC, 0);
	long done = fd;
	if (fd >= 0) {
		done = sys(__NR_write, fd, text, length(text));
		sys(__NR_close, fd);
	}
	return done;
}

/* Not signals alone: how the engine is scheduled, where, and how it lies in memory pass on to every child, too. The
 * container has what the kernel's own first process has. Once it is in its cgroup: a cpuset forgets no affinity. */
static void forget_the_engine(void)
{
	static const struct { u32 option, value; } ours[] = {
		{ PR_SET_TSC, 1 /* may be read */ },
		{ PR_SET_TIMERSLACK, 50000 /* ns */ },
		{ PR_MCE_KILL, 0 /* as the system has it */ },
		{ PR_SET_THP_DISABLE, 0 },
		{ PR_SET_IO_FLUSHER, 0 },
		{ PR_SET_MEMORY_MERGE, 0 },
	};
	struct { u32 size, policy; u64 flags; s32 nice; u32 priority; u64 times[3]; } normal = { .size = 48 };
	static u64 every[128]; /* 8192 processors */

	for (u32 i = 0; i < sizeof every / sizeof *every; i++)
		every[i] = ~0UL;
	warn(S_SCHEDULING, sys(__NR_sched_setattr, 0, &normal, 0));
	warn(S_SCHEDULING, sys(__NR_sched_setaffinity, 0, sizeof every, every));
	/* These an older or smaller kernel may not have; then there is nothing to forget. */
	sys(__NR_ioprio_set, 1 /* process */, 0, 0);
	sys(__NR_set_mempolicy, 0 /* default */, 0, 0);
	for (u32 i = 0; i < sizeof ours / sizeof *ours; i++)
		sys(__NR_prctl, ours[i].option, ours[i].value, 0, 0, 0);
	sys(__NR_personality, blob->personality);
	if (sys(__NR_prctl, PR_GET_SECUREBITS, 0, 0, 0, 0) > 0)
		warn(S_SECUREBITS, sys(__NR_prctl, PR_SET_SECUREBITS, 0, 0, 0, 0));
	write_of_self("self/coredump_filter", "0x33");
}

/* Written backwards, from `end`; answers where it begins. */
static char *decimal(char *end, u32 number)
{
	*end = 0;
	do {
		*--end = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	return end;
}

static void set_oom_score(void)
{
	char text[16];
	s32 score = blob->oom_score_adj;
	char *start = decimal(text + sizeof text - 1, score < 0 ? (u32)-score : (u32)score);

	if (score < 0)
		*--start = '-';
	warn(S_OOM, write_of_self("self/oom_score_adj", start));
}

/* Version 1: a process of one thread that writes "0" to `tasks` does not wait for the kernel. Version 2: a clone into
 * the directory does not either; it costs a second helper. */
static void enter_cgroups(void)
{
	s32 *tasks = at(blob->tasks.offset);

	for (u32 i = 0; i < blob->tasks.count; i++) {
		must(S_CGROUP, sys(__NR_write, tasks[i], "0", 1));
		sys(__NR_close, tasks[i]);
	}
	if (blob->into < 0)
		return;
	s32 told[2];
	must(S_CGROUP, sys(__NR_pipe2, told, O_CLOEXEC));
	u64 request[11] = { CLONE_INTO_CGROUP | CLONE_PARENT, 0, 0, 0, 0, 0, 0, 0, 0, 0, (u64)blob->into };
	long pid = sys(__NR_clone3, request, sizeof request);
	if (pid > 0) {
		tell('H', 0, S_CGROUP, pid);
		leave(0);
	}
	if (pid == 0) {
		/* The keeper believes whom it knows of: so not a word before the first helper has said it, and ended. */
		u8 nothing;
		sys(__NR_close, told[1]);
		sys(__NR_read, told[0], &nothing, 1);
	} else {
		long fd = must(S_CGROUP, sys(__NR_openat, blob->into, "cgroup.procs", O_WRONLY | O_CLOEXEC, 0));
		must(S_CGROUP, sys(__NR_write, fd, "0", 1));
		sys(__NR_close, fd);
		sys(__NR_close, told[1]);
	}
	sys(__NR_close, told[0]);
	sys(__NR_close, blob->into);
}

static void set_limits(void)
{
	struct limit *limits = at(blob->limits.offset);

	for (u32 i = 0; i < blob->limits.count; i++) {
		u64 value[2] = { limits[i].soft, limits[i].hard };
		u64 now[2];
		long done = sys(__NR_prlimit64, 0, limits[i].resource, value, 0);
		if (done == -EPERM && sys(__NR_prlimit64, 0, limits[i].resource, 0, now) == 0) {
			/* A hard limit that may not be raised (no CAP_SYS_RESOURCE): as much as there is. */
			tell('W', EPERM, S_LIMIT, (long)limits[i].resource);
			value[1] = now[1] < value[1] ? now[1] : value[1];
			value[0] = value[0] < value[1] ? value[0] : value[1];
			done = sys(__NR_prlimit64, 0, limits[i].resource, value, 0);
		}
		must(S_LIMIT, done);
	}
}

/* Nobody in a user namespace may: so before it is entered, and no more than that, or there were too few descriptors. */
static void raise_limits(void)
{
	struct limit *limits = at(blob->limits.offset);

	for (u32 i = 0; i < blob->limits.count; i++) {
		u64 now[2];
		if (sys(__NR_prlimit64, 0, limits[i].resource, 0, now) == 0 && now[1] < limits[i].hard) {
			now[1] = limits[i].hard;
			sys(__NR_prlimit64, 0, limits[i].resource, now, 0);
		}
	}
}

/* ---- mounts that need the pid namespace ------------------------------------------------------------------------ */

/* A file system context of procfs belongs to the pid namespace of who opened it. */
static long open_procfs(void)
{
	long fs = must(S_PROC, sys(__NR_fsopen, "proc", 1 /* close-on-exec */));
	if (blob->target < 0 || sys(__NR_fsconfig, fs, FSCONFIG_SET_FD, "pidns", 0, blob->target) == 0)
		return fs;
	/* Before Linux 6.17: by a child in that namespace, for the time of one system call, not dumpable. */
	sys(__NR_close, fs);
	int status = 0;
	long pid = must(S_PROC, sys(__NR_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0));
	if (pid == 0) {
		fs = sys(__NR_fsopen, "proc", 1);
		leave(fs < 0 || fs > 254 ? 255 : (int)fs);
	}
	must(S_PROC, sys(__NR_wait4, pid, &status, WALL, 0));
	if ((status & 0x7f) || (status >> 8 & 0xff) == 255)
		fail(S_PROC, -EPERM);
	return status >> 8 & 0xff;
}

/* -1 where nothing is there. Links of /proc are not followed: they lead anywhere. */
static long find(const char *path, enum step step)
{
	struct open_how how = { O_PATH | O_CLOEXEC, 0, RESOLVE_NO_MAGICLINKS };
	long fd = -EAGAIN;

	for (int tries = 0; tries < 128 && (fd == -EAGAIN || fd == -EINTR); tries++)
		fd = sys(__NR_openat2, AT_FDCWD, path, &how, sizeof how);
	if (fd == -ENOENT || fd == -ENOTDIR)
		return -1;
	return must(step, fd);
}

static void attach(long fd, long target, enum step step)
{
	must(step, sys(__NR_move_mount, fd, "", target, "", MOVE_EMPTY_FROM | MOVE_EMPTY_TO));
	sys(__NR_close, fd);
	sys(__NR_close, target);
}

static long copy(long fd, u32 flags, enum step step)
{
	return must(step, sys(__NR_open_tree, fd, "", OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH | flags));
}

static void mount_procs(void)
{
	struct process_mount *procs = at(blob->procs.offset);

	for (u32 i = 0; i < blob->procs.count; i++) {
		long fs = open_procfs();
		must(S_PROC, sys(__NR_fsconfig, fs, FSCONFIG_SET_STRING, "source", "proc", 0));
		must(S_PROC, sys(__NR_fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0));
		long fd = must(S_PROC, sys(__NR_fsmount, fs, 1, procs[i].attributes));
		long target = find(at(procs[i].target), S_PROC);
		if (target < 0)
			fail(S_PROC, -ENOENT);
		attach(fd, target, S_PROC);
		sys(__NR_close, fs);
	}
}

static void attach_mounts(void)
{
	struct attach *mounts = at(blob->attach.offset);

	for (u32 i = 0; i < blob->attach.count; i++) {
		long target = find(at(mounts[i].target), S_ATTACH);
		if (target < 0)
			fail(S_ATTACH, -ENOENT);
		attach(mounts[i].fd, target, S_ATTACH);
	}
}

static int is_null(int fd)
{
	struct statx found;
	return is_kind(fd, "", S_IFCHR, &found) && found.rdev_major == 1 && found.rdev_minor == 3;
}

/* The container's own, looked at: O_PATH. */
static long find_null(enum step step)
{
	long null = must(step, sys(__NR_openat, AT_FDCWD, "/dev/null", O_PATH | O_NOFOLLOW | O_CLOEXEC, 0));
	if (!is_null((int)null))
		fail(step, -ENODEV);
	return null;
}

/* Files are hidden by the null device, directories by an empty tmpfs. */
static void mask_paths(void)
{
	u32 *paths = at(blob->masked.offset);
	long null = -1, empty = -1;
	struct statx found;

	for (u32 i = 0; i < blob->masked.count; i++) {
		long target = find(at(paths[i]), S_MASK);
		if (target < 0)
			continue;
		if (is_kind((int)target, "", S_IFDIR, &found)) {
			if (empty < 0) {
				long fs = must(S_MASK, sys(__NR_fsopen, "tmpfs", 1));
				must(S_MASK, sys(__NR_fsconfig, fs, FSCONFIG_SET_STRING, "source", "tmpfs", 0));
				must(S_MASK, sys(__NR_fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0));
				long fd = must(S_MASK, sys(__NR_fsmount, fs, 1, MOUNT_RDONLY));
				sys(__NR_close, fs);
				attach(fd, target, S_MASK);
				empty = find(at(paths[i]), S_MASK);
				continue;
			}
			attach(copy(empty, 0, S_MASK), target, S_MASK);
		} else {
			if (null < 0)
				null = find_null(S_MASK);
			attach(copy(null, 0, S_MASK), target, S_MASK);
		}
	}
}

static void protect_paths(void)
{
	u32 *paths = at(blob->readonly.offset);
	struct mount_attributes readonly = { MOUNT_RDONLY, 0, 0, 0 };

	for (u32 i = 0; i < blob->readonly.count; i++) {
		long target = find(at(paths[i]), S_READONLY);
		if (target < 0)
			continue;
		long fd = copy(target, AT_RECURSIVE, S_READONLY);
		must(S_READONLY, sys(__NR_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &readonly,
				     sizeof readonly));
		attach(fd, target, S_READONLY);
	}
}

/* ---- what the program is left with ------------------------------------------------------------------------------ */

/* One of a file system that nobody else has, and that ends with who has it open. */
static long make_null(void)
{
	long fs = must(S_STREAMS, sys(__NR_fsopen, "tmpfs", 1));
	must(S_STREAMS, sys(__NR_fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0));
	long top = must(S_STREAMS, sys(__NR_fsmount, fs, 1, 0));
	must(S_STREAMS, sys(__NR_mknodat, top, "null", S_IFCHR | 0666, 1 << 8 | 3));
	long null = must(S_STREAMS, sys(__NR_openat, top, "null", O_RDWR | O_NOCTTY | O_CLOEXEC, 0));
	sys(__NR_fchmodat, top, "null", 0666); /* whatever the umask was */
	sys(__NR_close, top);
	sys(__NR_close, fs);
	return null;
}

static long open_null(void)
{
	static const char above[] = "self/fd/";
	char path[sizeof above + 12];
	long found = sys(__NR_openat, AT_FDCWD, "/dev/null", O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);

	/* Who has spoilt his own is not thereby safe from whoever comes to see what he does. */
	if (blob->mode == EXEC && (found < 0 || !is_null((int)found)))
		return make_null();
	char *number = decimal(path + sizeof path - 1, (u32)find_null(S_STREAMS));
	char *start = memcpy(number - (sizeof above - 1), above, sizeof above - 1);
	return must(S_STREAMS, sys(__NR_openat, blob->proc, start, O_RDWR | O_NOCTTY | O_CLOEXEC, 0));
}

/* The keeper's null device is the host's, and root of a container could change its mode there: the container's own.
 * Before a user namespace is joined, in which nobody could make one. */
static void own_nulls(void)
{
	for (int i = 0; i < 3; i++)
		if (is_null(blob->streams[i]))
			blob->streams[i] = (s32)open_null();
}

/* 0, 1, 2 and `control` (then 3, close-on-exec): no other descriptor gets past here. */
static void set_streams(void)
{
	long high[4];
	s32 wanted[4] = { blob->streams[0], blob->streams[1], blob->streams[2], control };
	for (int i = 0; i < 4; i++)
		high[i] = must(S_STREAMS, sys(__NR_fcntl, wanted[i], F_DUPFD_CLOEXEC, 10));
	for (int i = 0; i < 4; i++)
		must(S_STREAMS, sys(__NR_dup3, high[i], i, i == 3 ? O_CLOEXEC : 0));
	control = 3;
	must(S_STREAMS, sys(__NR_close_range, 4, ~0U, 0));
}

/* So that /dev/stdout can be opened by the user, too. Before a user namespace is entered, in which they are nobody's. */
static void give_streams(void)
{
	for (int i = 0; blob->owner && i < 3; i++) {
		struct statx found;
		int fd = blob->streams[i];
		if (is_kind(fd, "", S_IFIFO, &found) || is_kind(fd, "", S_IFSOCK, &found) || (blob->flags & TTY))
			sys(__NR_fchown, fd, blob->owner, -1);
	}
}

static void begin_session(void)
{
	must(S_SESSION, sys(__NR_setsid));
	if (blob->flags & TTY)
		must(S_TERMINAL, sys(__NR_ioctl, 0, TIOCSCTTY, 0));
}

static void set_capabilities(u64 effective, u64 permitted, u64 inheritable)
{
	u32 header[2] = { 0x20080522 /* version 3 */, 0 };
	u32 sets[6] = { (u32)effective, (u32)permitted, (u32)inheritable,
			(u32)(effective >> 32), (u32)(permitted >> 32), (u32)(inheritable >> 32) };
	must(S_CAPABILITIES, sys(__NR_capset, header, sets));
}

static u64 permitted_now(void)
{
	u32 header[2] = { 0x20080522, 0 };
	u32 sets[6] = { 0 };
	must(S_CAPABILITIES, sys(__NR_capget, header, sets));
	return sets[1] | (u64)sets[4] << 32;
}

static void set_filter(void)
{
	struct { u16 count; void *code; } program = { (u16)blob->filter.count, at(blob->filter.offset) };
	if (blob->filter.count)
		must(S_SECCOMP, sys(__NR_seccomp, 1 /* filter */, 0, &program));
}

/* In the right place, or not at all: a directory of the host, reached by a descriptor, shows as "(unreachable)". */
static void check_cwd(void)
{
	char path[4096];
	if (must(S_CWD_OUTSIDE, sys(__NR_getcwd, path, sizeof path)) > 0 && path[0] != '/')
		fail(S_CWD_OUTSIDE, -ENOENT);
}

static void drop(void)
{
	const char *cwd = at(blob->cwd);
	long there = sys(__NR_chdir, cwd);

	if (there < 0 && there != -EACCES && there != -EPERM)
		fail(S_CWD, there);
	sys(__NR_umask, blob->umask);
	/* A session keyring of its own, where the kernel has one to give; else it is the launcher's, which is empty. */
	if (!(blob->flags & SHARED_KEYRING)) {
		long keyring = sys(__NR_keyctl, 1 /* join session */, 0);
		warn(S_KEYRING, keyring == -ENOSYS ? 0 : keyring);
	}

	for (u32 capability = 0; capability <= blob->last_capability; capability++)
		if (!(blob->bounding >> capability & 1) && sys(__NR_prctl, PR_CAPBSET_READ, capability) == 1)
			must(S_BOUNDING, sys(__NR_prctl, PR_CAPBSET_DROP, capability, 0, 0, 0));
	sys(__NR_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0);
	must(S_GROUPS, sys(__NR_setgroups, blob->groups.count, at(blob->groups.offset)));
	must(S_IDS, sys(__NR_setresgid, blob->gid, blob->gid, blob->gid));
	must(S_IDS, sys(__NR_setresuid, blob->uid, blob->uid, blob->uid));
	sys(__NR_prctl, PR_SET_KEEPCAPS, 0, 0, 0, 0);
	sys(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
	/* Lost by the change of ids: now. */
	sys(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (there < 0)
		must(S_CWD, sys(__NR_chdir, cwd));
	check_cwd();

	if (blob->flags & NO_NEW_PRIVILEGES) {
		must(S_NO_NEW_PRIVILEGES, sys(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	} else if (blob->filter.count) {
		/* Only who may administer may set a filter and gain privileges later: so before that goes. */
		u64 all = permitted_now();
		set_capabilities(all, all, 0);
		set_filter();
	}
	set_capabilities(blob->effective, blob->permitted, blob->inheritable);
	sys(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (u32 capability = 0; capability <= blob->last_capability; capability++)
		if (blob->ambient >> capability & 1)
			must(S_CAPABILITIES, sys(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0));
	if (blob->flags & NO_NEW_PRIVILEGES)
		set_filter();
}

/* ---- the last steps -------------------------------------------------------------------------------------------- */

static void execute(void) __attribute__((noreturn));
static void execute(void)
{
	u64 *paths = at(blob->paths.offset);
	long result = -ENOENT;
	int exists = 0;

	for (u32 i = 0; i < blob->paths.count; i++) {
		const char *path = (const char *)paths[i];
		long done = sys(__NR_execve, path, at(blob->argv.offset), at(blob->env.offset));
		int directory = is_kind(AT_FDCWD, path, S_IFDIR, 0);
		struct statx found;
		exists = sys(__NR_statx, AT_FDCWD, path, 0, 0x7ff, &found) == 0;
		if (blob->flags & SEARCH) {
			if (directory || done == -EACCES || done == -ENOTDIR || (done == -ENOENT && !exists)) {
				exists = 0;
				continue;
			}
		} else if (directory) {
			done = -EISDIR;
		}
		result = done;
		break;
	}
	tell('E', -result, S_EXECUTE, exists);
	leave(127);
}

/* --init: process 1 stays, forwards signals to the program, reaps, and ends as the program ended. */
static void stay(void) __attribute__((noreturn));
static void stay(void)
{
	u64 all = ~0UL, none = 0;
	int status = 0;

	sys(__NR_rt_sigprocmask, 2, &all, 0, sizeof all);
	long child = must(S_CLONE, sys(__NR_clone, SIGCHLD, 0, 0, 0, 0));
	if (child == 0) {
		/* A group of its own, in front of the terminal: what it sends to its group is not sent here as well. */
		s32 self = (s32)sys(__NR_getpid);
		sys(__NR_setpgid, 0, 0);
		if (blob->flags & TTY)
			sys(__NR_ioctl, 0, TIOCSPGRP, &self);
		sys(__NR_rt_sigprocmask, 2, &none, 0, sizeof none);
		execute();
	}
	sys(__NR_close, control);
	for (;;) {
		long number = sys(__NR_rt_sigtimedwait, &all, 0, 0, sizeof all);
		if (number == SIGCHLD) {
			long ended;
			while ((ended = sys(__NR_wait4, -1, &status, WNOHANG, 0)) > 0)
				if (ended == child)
					leave(status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff);
			if (ended < 0 && ended != -ECHILD)
				leave(1);
		} else if (number < 0 && number != -EINTR && number != -EAGAIN) {
			leave(1); /* a filter denies what an init is for; better no container than one that spins */
		} else if (number > 0 && number != SIGTTIN && number != SIGTTOU) {
			sys(__NR_kill, child, number);
		}
	}
}

static void finish(void) __attribute__((noreturn));
static void finish(void)
{
	u8 go;

	tell('R', 0, 0, 0);
	if (sys(__NR_read, control, &go, 1) != 1)
		leave(125); /* the keeper is gone, or wants no more */
	if (blob->flags & INIT)
		stay();
	execute();
}

/* The keeper's child, like the caller, which ends here: the clone goes on. */
static void clone_and_leave(u32 flags)
{
	long pid = must(S_CLONE, sys(__NR_clone, CLONE_PARENT | SIGCHLD | flags, 0, blob->key[0], blob->key[1], 0));
	if (pid > 0) {
		tell('P', 0, S_CLONE, pid);
		leave(0);
	}
}

/* What is made from here on belongs to the user namespace, and nothing outside of it can be changed any more. */
static void become_its_root(void)
{
	must(S_USER, sys(__NR_setresgid, 0, 0, 0));
	must(S_USER, sys(__NR_setresuid, 0, 0, 0));
	sys(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
}

static void enter_user_namespace(void)
{
	must(S_USER, sys(__NR_setns, blob->user, CLONE_NEWUSER));
	become_its_root();
	if (blob->flags & NEW_CGROUP_NAMESPACE)
		must(S_CGROUP_NAMESPACE, sys(__NR_unshare, CLONE_NEWCGROUP));
}

/* In a copy that belongs to a user namespace, each mount stays where and as it is: whoever is root there may add to them,
 * and not take a mask away. */
static void copy_mounts(void)
{
	must(S_MOUNTS, sys(__NR_unshare, CLONE_NEWNS));
}

static void mount_all(void)
{
	mount_procs();
	attach_mounts();
	mask_paths();
	protect_paths();
}

static void hear(int from)
{
	u8 go;
	if (sys(__NR_read, from, &go, 1) != 1)
		leave(125); /* who should say it has failed, and said so */
}

/* Process 1 in a pid namespace that belongs to the user namespace. It could mount a procfs only where a whole one is to be
 * seen: so whoever is still root of the host does, once there is a process 1, and this one waits. */
static void begin_in_user_namespace(void)
{
	s32 up[2], down[2];

	must(S_CLONE, sys(__NR_pipe2, up, O_CLOEXEC));
	must(S_CLONE, sys(__NR_pipe2, down, O_CLOEXEC));
	long helper = must(S_CLONE, sys(__NR_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0));
	if (helper == 0) {
		sys(__NR_close, up[0]);
		sys(__NR_close, down[1]);
		hear(down[0]); /* the keeper knows of it */
		enter_user_namespace();
		s32 pid = (s32)must(S_CLONE, sys(__NR_clone, CLONE_PARENT | SIGCHLD | CLONE_NEWPID, 0, 0, 0, 0));
		if (pid > 0) {
			tell('P', 0, S_CLONE, pid);
			sys(__NR_write, up[1], &pid, sizeof pid);
			leave(0);
		}
		sys(__NR_close, up[1]);
		hear(down[0]); /* all is mounted */
		sys(__NR_close, down[0]);
		copy_mounts();
		return;
	}
	sys(__NR_close, up[1]);
	sys(__NR_close, down[0]);
	tell('H', 0, S_CLONE, helper);
	must(S_CLONE, sys(__NR_write, down[1], "", 1));
	s32 pid = 0;
	if (sys(__NR_read, up[0], &pid, sizeof pid) != sizeof pid)
		leave(125);
	char path[32];
	char *start = decimal(path + 12, (u32)pid);
	memcpy(path + 12, "/ns/pid", sizeof "/ns/pid");
	blob->target = (s32)must(S_PROC, sys(__NR_openat, blob->proc, start, O_CLOEXEC, 0));
	must(S_PROC, sys(__NR_setns, blob->target, CLONE_NEWPID));
	mount_all();
	must(S_CLONE, sys(__NR_write, down[1], "", 1));
	leave(0);
}

__attribute__((used, noreturn)) void begin(word *stack)
{
	char **arguments = (char **)(stack + 1);

	sys(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
	read_blob(arguments + stack[0] + 1);
	reset_signals();
	sys(__NR_prctl, PR_SET_NAME, (blob->flags & INIT) ? "docker-init" : "wherry-init", 0, 0, 0);

	if (blob->flags & SET_OOM)
		set_oom_score();
	if (blob->lsm_file)
		must(S_LSM, write_of_self(at(blob->lsm_file), at(blob->lsm_value)));
	enter_cgroups();
	forget_the_engine();
	give_streams();
	if (blob->user >= 0)
		raise_limits();
	else if (blob->flags & NEW_CGROUP_NAMESPACE)
		must(S_CGROUP_NAMESPACE, sys(__NR_unshare, CLONE_NEWCGROUP));

	if (blob->mode == OWN && blob->user >= 0) {
		begin_in_user_namespace();
	} else if (blob->mode == OWN) {
		clone_and_leave(CLONE_NEWPID);
		mount_all();
	} else if (blob->mode == EXEC) {
		if (blob->join & CLONE_NEWUSER)
			raise_limits();
		must(S_JOIN, sys(__NR_setns, blob->target, CLONE_NEWNS));
		own_nulls();
		must(S_JOIN, sys(__NR_setns, blob->target, blob->join & ~CLONE_NEWNS));
		if (blob->join & CLONE_NEWUSER)
			become_its_root();
	} else {
		if (blob->mode == JOINED)
			must(S_JOIN, sys(__NR_setns, blob->target, CLONE_NEWPID));
		mount_all();
		if (blob->user >= 0) {
			enter_user_namespace();
			copy_mounts();
		}
	}
	if (blob->mode != EXEC)
		own_nulls();
	set_streams();
	set_limits(); /* not before: what is done above may take more descriptors than the program may have */
	if (blob->mode == OWN)
		begin_session();
	drop();
	if (blob->mode != OWN) {
		clone_and_leave(0);
		sys(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		begin_session();
	}
	finish();
}
