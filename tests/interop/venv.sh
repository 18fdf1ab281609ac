# Sourced: makes `$venv`, a Python with what requirements.txt lists; here for this folder and for ../proxies.
readonly venv=${XDG_CACHE_HOME:-$HOME/.cache}/video-notifier-tests/interop-venv
readonly requirements=$(dirname "${BASH_SOURCE[0]}")/requirements.txt
# Again where the list is newer, or another Python took the old one's place.
if ! "$venv/bin/python" -c '' 2> /dev/null || ! cmp --silent "$requirements" "$venv/installed.txt"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --requirement "$requirements"
    cp "$requirements" "$venv/installed.txt"
fi
