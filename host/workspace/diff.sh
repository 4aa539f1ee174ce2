# Prints file $2 as it was and as it is, in its repository, seen from folder $1; at most $3 bytes each. First the size of the
# original and a newline, "-" if there was none, and the original; then the size of the file and a newline, or "-", and the file.
# Exit code 3: one is too large; 4: there is neither.
set -u
file=$2 most=$3
cd -- "$1" || exit 1

# Git is asked from the nearest folder that is still there.
[[ $file == /* ]] || file=$PWD/$file
folder=$(dirname -- "$file") rest=$(basename -- "$file")
until cd -- "$folder" 2>/dev/null; do
  rest=$(basename -- "$folder")/$rest folder=$(dirname -- "$folder")
done
in_repository || { echo "not a git repository: $folder" >&2; exit 1; }
before=$(base) || exit 1

was=- is=-
if [[ $(git cat-file -t "$before:./$rest" 2>/dev/null) == blob ]]; then
  was=$(git cat-file -s "$before:./$rest") || exit 1
fi
if [[ -f $rest ]]; then
  is=$(stat -L -c %s -- "$rest") || exit 1
fi
[[ $was == - || $was -le $most ]] && [[ $is == - || $is -le $most ]] || exit 3
[[ $was$is != -- ]] || exit 4
printf '%s\n' "$was"
[[ $was == - ]] || git cat-file blob "$before:./$rest" || exit 1
printf '%s\n' "$is"
[[ $is == - ]] || head -c "$is" -- "$rest"
