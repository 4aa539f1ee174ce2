# shellcheck shell=bash
# The tools that the scripts use, each at one pinned version, built from the Go module proxy once and kept by version.
# Sourced by scripts/generate and scripts/test.

tools_dir=${OPENHANDS_RT_TOOLS:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/openhands-rt/tools}

# pinned NAME prints the package and the version of a tool.
pinned() {
  case $1 in
    buf) echo github.com/bufbuild/buf/cmd/buf v1.75.0 ;;
    protoc-gen-go) echo google.golang.org/protobuf/cmd/protoc-gen-go v1.36.12 ;;
    protoc-gen-connect-go) echo connectrpc.com/connect/cmd/protoc-gen-connect-go v1.21.1 ;;
    protoc-gen-go-grpc) echo google.golang.org/grpc/cmd/protoc-gen-go-grpc v1.6.2 ;;
    oapi-codegen) echo github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen v2.8.2 ;;
    golangci-lint) echo github.com/golangci/golangci-lint/v2/cmd/golangci-lint v2.15.0 ;;
    gotestsum) echo gotest.tools/gotestsum v1.13.0 ;;
    *) echo "no pinned tool is called $1" >&2; return 1 ;;
  esac
}

# tool NAME prints the path of a tool. The first time it builds it, in a folder that gets its final name only when the build is
# done, so that a build that was cut short is never taken for a tool.
tool() {
  local name=$1 pin package version folder fresh
  pin=$(pinned "$name")
  read -r package version <<<"$pin"
  folder=$tools_dir/$name@$version
  if [[ ! -x $folder/$name ]]; then
    echo "building $name $version (once; kept in $folder)" >&2
    mkdir -p "$tools_dir"
    fresh=$(mktemp -d "$tools_dir/.$name.XXXXXX")
    # The tool's own go.mod decides its dependencies, not ours; tags and flags meant for this repository stay out of it.
    if ! GOBIN=$fresh GOFLAGS='' CGO_ENABLED=0 go install -trimpath "$package@$version" >&2; then
      rm -rf "$fresh"
      return 1
    fi
    # Another run may have been quicker: its tool is as good.
    mv -T "$fresh" "$folder" 2>/dev/null || rm -rf "$fresh"
  fi
  echo "$folder/$name"
}

# need_go stops with a remedy where there is no Go, or one that is too old for go.mod.
need_go() {
  local want have
  want=$(sed -n 's/^go //p' go.mod)
  if ! command -v go >/dev/null; then
    echo "Go $want or newer is needed and 'go' is not on PATH." >&2
    echo "→ get it from https://go.dev/dl/ (unpack to /usr/local/go, then: export PATH=\$PATH:/usr/local/go/bin)" >&2
    return 1
  fi
  have=$(go env GOVERSION)
  have=${have#go}
  if [[ $(printf '%s\n%s\n' "$want" "${have%% *}" | sort -V | head -n 1) != "$want" ]]; then
    echo "Go $want or newer is needed, and this is Go $have." >&2
    echo "→ get a newer one from https://go.dev/dl/, or let Go fetch it: export GOTOOLCHAIN=auto" >&2
    return 1
  fi
}
