# Sourced before the others: what a repository is compared with.

# in_repository: whether the working directory is in one. What else git may have against it ends the script.
in_repository() {
  local said
  said=$(git rev-parse --is-inside-work-tree 2>&1) && { [[ $said == true ]]; return; }
  [[ $said == *'not a git repository'* ]] && return 1
  printf '%s\n' "$said" >&2
  exit 1
}

# default_branch prints the name of origin's. It is known after a clone; else origin is asked, if anything of it is here.
default_branch() {
  local name
  name=$(git symbolic-ref -q refs/remotes/origin/HEAD) && { printf '%s' "${name#refs/remotes/origin/}"; return; }
  [[ -n $(git for-each-ref --count=1 refs/remotes/origin) ]] || return 1
  name=$(timeout 10 git ls-remote --symref origin HEAD 2>/dev/null) || return 1
  [[ $name == "ref: refs/heads/"* ]] || return 1
  name=${name#ref: refs/heads/}
  printf '%s' "${name%%$'\t'*}"
}

# base prints the commit or tree that stands for "before".
base() {
  local branch remote
  branch=$(git branch --show-current)
  [[ -n $branch ]] && git rev-parse -q --verify "refs/remotes/origin/$branch^{commit}" && return
  if remote=$(default_branch); then
    remote=refs/remotes/origin/$remote
    git merge-base HEAD "$remote" 2>/dev/null && return
    git rev-parse -q --verify "$remote^{commit}" && return
  fi
  git hash-object -t tree /dev/null
}
