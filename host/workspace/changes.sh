# Prints the changes of folder $1 and of the repositories one level below it, everything ended by NUL. For each repository: its
# folder ("." for the first); pairs of status and path; an empty word; untracked paths; an empty word.
set -u
cd -- "$1" || exit 1

changes() {
  local from
  in_repository || return 0
  from=$(base) || exit 1
  printf '%s\0' "$1"
  git diff --no-ext-diff --no-renames --relative --name-status -z "$from" -- || exit 1
  printf '\0'
  git ls-files --others --exclude-standard -z || exit 1
  printf '\0'
}

changes . || exit 1
for dir in */.git; do
  [[ -e $dir ]] || continue
  dir=${dir%/.git}
  (cd -- "$dir" && changes "$dir") || exit 1
done
