# What the checks share. Each counts its steps and ends with `count`.
set -u
passed=0 failed=0

# step NAME COMMAND...: what it prints is shown if it fails.
step() {
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		printf 'FAIL %s: %s\n' "$name" "$(tail -n 5 <<<"$out")"
	fi
}

count() {
	echo "$passed passed, $failed failed"
	exit $((failed > 0))
}

# need COMMAND PACKAGE: without the command the check says so and ends.
need() {
	command -v "$1" >/dev/null || skip "$1 is not installed: apt install $2"
}

skip() {
	echo "0 passed, 0 failed, 1 skipped: $*"
	exit 0
}

# tree DIR: files of all kinds.
tree() (
	set -e
	mkdir -p "$1" && cd "$1"
	mkdir -p a/b/c 'with space' $'odd\xff\nname' empty sgid
	for i in $(seq 60); do
		head -c $((i * 997)) /dev/urandom >"a/f$i"
		touch -d "2001-02-03 04:05:06.$((100000000 + i))" "a/f$i"
	done
	head -c 3000000 /dev/urandom >a/b/large
	truncate -s 5M sparse && printf x | dd of=sparse bs=1 seek=3000000 conv=notrunc status=none
	ln a/f1 a/b/link1 && ln a/f1 'with space/link2' && ln a/b/large empty-not
	ln -s ../f1 a/b/sym && ln -s nowhere dangling && ln -s /absolute/path absolute
	: >"$(printf 'n%.0s' $(seq 255))"
	echo x >$'odd\xff\nname/-rf'
	chmod 2775 sgid && chmod 1777 empty && chmod 4711 a/f2 && chmod 0 a/f3
	if [[ $(id -u) == 0 ]]; then
		chown 1234:5678 a/f4 && chown -h 1234:5678 dangling
		mkfifo pipe && mknod null c 1 3
	fi
	! command -v setfattr >/dev/null || setfattr -n user.note -v 'some text' a/f5 a/b
	! command -v setfacl >/dev/null || { setfacl -m u:1234:rw,g:5678:r a/f6 && setfacl -d -m u:1234:rwx a/b/c; }
	touch -d '1999-12-31 23:59:59.987654321' a/b 'with space'
)

# manifest DIR: all that is to be the same in a copy.
manifest() (
	cd "$1" || exit
	find . -mindepth 1 \( -type d -printf '%p %y %m %U %G %T@\n' -o -type f -printf '%p %y %m %U %G %T@ %s %n\n' -o -printf '%p %y %m %U %G %n %l\n' \) | sort
	find . -type f -print0 | sort -z | xargs -0 sha256sum
	! command -v getfattr >/dev/null || getfattr -R -h -d -m '^user' . 2>/dev/null | sort
	! command -v getfacl >/dev/null || getfacl -R -n -p . | sort
)

# same A B: two trees are.
same() { diff <(manifest "$1") <(manifest "$2"); }
