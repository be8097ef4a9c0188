# shellcheck shell=bash
# The cache of kernels and of the guest's root: how each is made, named and thrown away. Sourced by
# `vm`, which owns the command line and the running.
#
#   cache/6.1-VERSION-RECIPE/   vmlinux (or bzImage)  initrd  modules.ext4  release
#   cache/root-VERSIONS-RECIPE/ root.ext4
#   cache/peers-VERSION-RECIPE/ the test programs of other security modules, compiled
#   cache/6.1.RECIPE  cache/root.RECIPE …  links to what the last fetch chose
#
# The links let `run` find the images that this very harness makes without asking apt for versions.

: "${here:?is set by vm}"
cache=${CARTOUCHE_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cartouche-vm}

# The Debian package whose dependency is the kernel to test.
declare -A kernel_package=([6.1]=linux-image-amd64 [6.12]=linux-image-6.12-amd64)

# The source package whose test programs are peers, and the release of Debian that it is taken from.
peers_package=apparmor peers_release=trixie

images=("${!kernel_package[@]}" root peers)

# Whether these images are there.
have_images() {
	local name
	for name; do
		[[ -e $cache/$name.$(recipe "$name")/ready ]] || return 1
	done
}

# fetch IMAGE…
fetch() {
	local tool name
	if ((EUID != 0)) && command -v sudo >/dev/null; then
		mkdir -p "$cache"
		exec sudo CARTOUCHE_VM_CACHE="$cache" "$here/vm" fetch "$@"
	fi
	for tool in apt-get dpkg-deb mmdebstrap mke2fs cpio depmod modprobe xz zstd busybox; do
		command -v "$tool" >/dev/null || die "vm fetch needs $tool: apt-get install" \
			"qemu-system-x86 mmdebstrap e2fsprogs busybox-static cpio kmod zstd xz-utils"
	done
	((EUID == 0)) || die "vm fetch makes a file system with its owners: run it as root, once" \
		"(vm run needs no root: CARTOUCHE_VM_CACHE tells both where)"
	[[ $(dpkg --print-architecture) == amd64 ]] || die "vm fetch makes amd64 guests on amd64 hosts only"
	mkdir -p "$cache" || die "the cache cannot be made"
	exec 8>"$cache/fetch.lock"
	flock -n 8 || { say "another fetch is running, waiting for it"; flock 8; }
	for name; do
		case $name in
		root | peers) "fetch_$name" ;;
		*) fetch_kernel "$name" ;;
		esac
	done
	prune
	say "cache: $cache ($(du -sh "$cache" | cut -f1))"
}

# recipe NAME: a hash of all that makes this image, so that a change here makes a new one.
recipe() {
	case $1 in
	root) declare -f make_root make_ext4; cat "$here/packages" "$here/guest/customize" ;;
	peers) echo "$peers_package"; declare -f make_peers; cat "$here/peers" ;;
	*) declare -f make_kernel extract_vmlinux make_modules make_initrd make_ext4; cat "$here/guest/initrd" ;;
	esac | sha256sum | cut -c1-12
}

# image NAME: the directory of the image 6.1, 6.12 or root.
image() {
	local dir
	dir=$cache/$1.$(recipe "$1")
	[[ -e $dir/ready ]] || die "$cache has no image \"$1\" made by this version of the harness:" \
		"run $here/vm fetch"
	touch -c "$dir/ready" 2>/dev/null || true # a read-only cache does
	readlink -f "$dir"
}

# keep NAME VERSION MAKER ARGS…: the image NAME is cached for this VERSION, or MAKER makes it in a fresh
# directory; only when finished does the directory get its name, and the link.
keep() {
	local name=$1 key making=$cache/making.$$ code
	key=$1-$2-$(recipe "$1")
	shift 2
	if [[ ! -e $cache/$key/ready ]]; then
		rm -rf "${cache:?}/$key" "$cache"/making.*
		mkdir "$making"
		set +e # and not `|| die`, which would switch off errexit inside
		(set -e; cd "$making"; "$@")
		code=$?
		set -e
		((code == 0)) || die "could not make image \"$name\" (its directory stays: $making)"
		touch "$making/ready"
		mv -T "$making" "$cache/$key"
		say "made $key"
	fi
	touch "$cache/$key/ready"
	ln -sfnT "$key" "$cache/.link"
	mv -T "$cache/.link" "$cache/$name.$(recipe "$name")"
}

fetch_kernel() {
	local series=$1 meta=${kernel_package[$1]} package version release
	read -r package version < <(apt-cache show --no-all-versions "$meta" 2>/dev/null |
		sed -n 's/^Depends: \(linux-image-[^ ]*\) (= \([^)]*\)).*/\1 \2/p') || true
	[[ -n ${package:-} ]] || die "apt knows no $meta: kernel $series needs Debian bookworm's" \
		"main and security sources, and apt-get update"
	release=${package#linux-image-}
	[[ $release == "$series".* ]] ||
		die "apt offers $release as $meta, which is no kernel $series: are the sources bookworm's?"
	keep "$series" "$version" make_kernel "$package" "$version" "$release"
}

make_kernel() {
	local package=$1 version=$2 release=$3
	say "downloading $package $version"
	apt-get download -qq "$package=$version" 2> >(grep -v unsandboxed >&2)
	say "unpacking $package"
	dpkg-deb -x ./*.deb unpacked
	extract_vmlinux "unpacked/boot/vmlinuz-$release"
	say "building the initrd and the modules' image"
	make_modules "$release"
	make_initrd "$release"
	echo "$release" >release
	rm -rf ./*.deb unpacked
}

# The ELF kernel inside a bzImage starts by PVH and saves its own slow decompression. The setup header
# says where the payload is (Documentation/arch/x86/boot.rst: 0x1f1 setup_sects, 0x248 payload_offset,
# 0x24c payload_length); but for gzip, its last four bytes are the unpacked size.
extract_vmlinux() {
	local sectors offset length
	sectors=$(od -An -tu1 -j497 -N1 "$1")
	read -r offset length < <(od -An -tu4 -j584 -N8 "$1")
	head -c $(((sectors + 1) * 512 + offset + length - 4)) "$1" | tail -c $((length - 4)) >payload
	case $(od -An -tx1 -N4 payload) in
	' fd 37 7a 58') xz -dc payload >vmlinux ;;
	' 28 b5 2f fd') zstd -qdc payload >vmlinux ;;
	esac
	rm payload
	if [[ ! -s vmlinux || $(head -c 4 vmlinux) != $'\x7fELF' ]]; then
		say "no ELF kernel found in $(basename "$1"): it will start as bzImage, more slowly"
		rm -f vmlinux
		cp "$1" bzImage
	fi
}

# All modules that a virtual machine can use; sound, graphics and other hardware stay behind.
make_modules() {
	local modules=unpacked/lib/modules/$1
	depmod -b unpacked "$1"
	mkdir -p "tree/$1/kernel/drivers/net"
	cp -a "$modules"/kernel/{arch,block,crypto,fs,lib,mm,net,virt} "tree/$1/kernel"
	cp -a "$modules"/kernel/drivers/{block,char,md,virtio} "tree/$1/kernel/drivers"
	cp -a "$modules"/kernel/drivers/net/*.ko* "tree/$1/kernel/drivers/net"
	cp -a "$modules"/modules.{builtin,builtin.modinfo,order} "tree/$1"
	mkdir -p base/lib && mv tree base/lib/modules
	depmod -b base "$1"
	make_ext4 base/lib/modules modules.ext4 64
	rm -rf base
}

make_initrd() {
	local module file
	mkdir -p initrd/{bin,dev,proc,sys,root,modules}
	cp "$here/guest/initrd" initrd/init
	chmod 755 initrd/init
	file -L "$(command -v busybox)" 2>/dev/null | grep -q 'dynamically linked' &&
		die "the initrd needs a static busybox: apt-get install busybox-static"
	cp "$(command -v busybox)" initrd/bin/busybox
	# --show-depends lists a module after those that it needs; uncompressed, for busybox's insmod.
	for module in virtio_pci virtio_blk virtio_console ext4; do
		modprobe -d unpacked -S "$1" --show-depends "$module"
	done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' | while read -r file; do
		module=$(basename "$file")
		case $file in
		*.xz) xz -dc "$file" >"initrd/modules/${module%.xz}" ;;
		*.zst) zstd -qdc "$file" >"initrd/modules/${module%.zst}" ;;
		*) cp "$file" initrd/modules ;;
		esac
		module=${module%.xz}
		echo "${module%.zst}"
	done >order
	mv order initrd/modules/order
	(cd initrd && find . | cpio --quiet -o -H newc -R 0:0) >initrd.cpio
	rm -rf initrd
	mv initrd.cpio initrd
}

# make_ext4 TREE IMAGE FREE_MB: sparse, without a journal (every run throws its changes away).
make_ext4() {
	local size
	size=$(($(du -sm --apparent-size "$1" | cut -f1) * 5 / 4 + $3))
	mke2fs -q -t ext4 -O ^has_journal -m 0 -E root_owner=0:0,nodiscard -d "$1" "$2" "${size}M" >/dev/null
}

fetch_root() {
	local packages sources versions
	mapfile -t packages < <(grep -v '^#' "$here/packages" | tr -s ' ' '\n')
	# The host's own Debian sources, wherever they point.
	# shellcheck disable=SC2016
	mapfile -t sources < <(apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' 'Origin: Debian' 'Architecture: amd64' |
		grep -E ' bookworm(-security|-updates)? main$' | sort -u)
	((${#sources[@]} > 0)) || die "apt has no Debian bookworm source: the guest's root is made from it"
	versions=$(apt-cache show --no-all-versions "${packages[@]}" | grep -E '^(Package|Version):' |
		sha256sum | cut -c1-12)
	keep root "$versions" make_root "$(IFS=,; echo "${packages[*]}")" "${sources[@]}"
}

# make_root PACKAGE,PACKAGE… SOURCE…: Debian's minimal system and these packages.
make_root() {
	local include=$1 options=() option
	shift
	# mmdebstrap keeps off the host's apt settings: hand on how to reach the mirror.
	while read -r option; do options+=(--aptopt="$option"); done < <(
		apt-config dump --format '%F "%v";%n' | grep -E '^Acquire::(https?|Check-)' | grep -v '""')
	options+=(--aptopt='Dir::Etc::netrc "/etc/apt/auth.conf";')
	options+=(--aptopt='Dir::Etc::netrcparts "/etc/apt/auth.conf.d";')
	options+=(--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*')
	options+=(--dpkgopt='path-exclude=/usr/share/locale/*')
	say "building the guest's Debian root (about a minute)"
	mmdebstrap --quiet --variant=minbase --include="$include" "${options[@]}" \
		--customize-hook="sh '$here/guest/customize' \"\$1\"" bookworm root.tar "$@" </dev/null
	say "writing root.ext4"
	mkdir tree
	tar -x -f root.tar -C tree --numeric-owner --exclude='./dev/*'
	make_ext4 tree root.ext4 1024
	rm -rf tree
	rm root.tar
}

# With directories of apt's that are its own, for the host's know no source packages; the mirror and the way to
# it are the host's. What is not signed by Debian is not taken, whatever the host's settings allow.
fetch_peers() {
	local apt=$cache/apt own mirror version file
	for file in /usr/include/sys/apparmor.h /usr/include/liburing.h; do
		[[ -e $file ]] || die "the image \"peers\" needs $file: apt-get install libapparmor-dev liburing-dev"
	done
	# shellcheck disable=SC2016
	mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' \
		'Codename: bookworm' 'Component: main' 'Architecture: amd64' | head -n 1)
	[[ -n $mirror ]] || die "apt has no Debian bookworm source: it says where the mirror is"
	rm -rf "$apt"
	mkdir -p "$apt"/state/lists/partial "$apt"/cache/archives/partial
	cat >"$apt/sources.list" <<-END
		deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $peers_release main
	END
	# on the command line, which goes over the host's files
	own=(-o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
		-o "Dir::State=$apt/state" -o Dir::State::Status=/dev/null -o "Dir::Cache=$apt/cache"
		-o Acquire::Languages=none -o APT::Sandbox::User=root -o APT::Update::Error-Mode=any
		-o Acquire::AllowInsecureRepositories=false -o Acquire::AllowWeakRepositories=false
		-o Acquire::AllowDowngradeToInsecureRepositories=false -o APT::Get::AllowUnauthenticated=false)
	say "looking for $peers_package in Debian $peers_release"
	apt-get "${own[@]}" -qq update
	version=$(apt-cache "${own[@]}" showsrc --only-source "$peers_package" |
		sed -n 's/^Version: //p' | sort -V | tail -n 1)
	[[ -n $version ]] || die "Debian $peers_release has no source package $peers_package"
	keep peers "$version" make_peers "$version" "${own[@]}"
	rm -rf "$apt"
}

# make_peers VERSION APT_OPTIONS…: linked like any program of Debian's, but for libraries that the guest lacks.
make_peers() {
	local version=$1 name sources
	shift
	say "downloading the source of $peers_package $version, and compiling its test programs"
	apt-get "$@" -qq source --download-only --tar-only "$peers_package=$version"
	mkdir source
	tar -x -f "$peers_package"_*.orig.tar.* -C source --strip-components=4 --wildcards \
		'*/tests/regression/apparmor/*.[ch]'
	for name in $(grep -v '^#' "$here/peers"); do
		sources=("source/$name.c")
		case $name in
		unix_fd_*) sources+=(source/unix_fd_common.c) ;;
		unix_socket*) sources+=(source/unix_socket_common.c) ;;
		esac
		cc -w -O0 -s -pthread -o "$name" "${sources[@]}" -Wl,-Bstatic -lapparmor -luring -Wl,-Bdynamic
	done
	rm -rf source "$peers_package"_*
}

# Throws away what no fetch or run has touched for a week. A run holds the lock: then not now.
prune() {
	local ready
	touch "$cache/use.lock"
	exec 9<"$cache/use.lock"
	flock -n 9 || { say "images are in use, old ones stay for now"; return; }
	find "$cache" -mindepth 2 -maxdepth 2 -name ready -mtime +7 | while read -r ready; do
		say "pruning $(basename "$(dirname "$ready")")"
		rm -rf "$(dirname "$ready")"
	done
	find "$cache" -maxdepth 1 -xtype l -delete
	exec 9>&-
}
