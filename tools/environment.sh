# Environments of the project's own, under build/env. Sourced by the other tools.

# The newest interpreter that fits, so that a fresh machine needs nothing but a Python from 3.11 on.
find_python() {
    local name
    for name in "${PYTHON:-}" python3.11 python3 python3.12 python3.13 python; do
        if [ -n "$name" ] && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "shardkit needs Python 3.11 or newer; none was found (name one with PYTHON=...)" >&2
    return 1
}

# make_environment NAME REQUIREMENT...: build/env/NAME with the requirements installed; nothing happens when it is
# there already and neither they nor pyproject.toml have changed.
make_environment() {
    local folder="build/env/$1" stamp
    shift
    stamp="$(printf '%s\n' "$@" | cat - pyproject.toml | cksum)"
    [ "$(cat "$folder/stamp" 2>/dev/null)" = "$stamp" ] && return
    echo "setting up $folder (once; a few minutes) ..."
    mkdir -p build/env
    "$(find_python)" -m venv --clear "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    echo "$stamp" > "$folder/stamp"
}

# What the user has set up for their own Python must not reach ours.
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PYTHONNOUSERSITE=1 TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"
