"""The page's server under 200 requests at once, bad ones among them: answers, requests a second, memory by round.

    python -m benchmarks.serve_load --weights best.pth [--rounds 20]

Every request must be answered, with the status that belongs to it, and the server's memory may not grow from round to
round: exit code 1 where a request is lost or wrong, or where the memory after the last round is more than 5% above that
after half of them (before, the allocator's pools fill). It needs Linux, which tells the memory of another process.
"""

import argparse
import asyncio
import io
import subprocess
import sys
import time

import httpx2
import numpy as np
from PIL import Image

AT_ONCE = 200


def picture(height: int, width: int, seed: int) -> bytes:
    """The content of a JPEG file of noise."""
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def bodies() -> list[tuple[bytes, int]]:
    """Contents of requests with the status that each must have."""
    good = [(picture(480, 640, seed), 200) for seed in range(4)] + [(picture(1500, 2000, 9), 200)]
    return [*good, (b"", 400), (b"no picture", 400), (good[0][0][:2000], 400), (bytes(21_000_000), 413)]


async def one_round(address: str) -> tuple[int, float]:
    """How many requests were answered as they must be, and the seconds until the last was."""
    kinds = bodies()

    async def ask(client: httpx2.AsyncClient, number: int) -> bool:
        content, status = kinds[number % len(kinds)]
        answer = await client.post("/api/predict", content=content)
        return answer.status_code == status and bool(answer.json())

    limits = httpx2.Limits(max_connections=AT_ONCE)
    async with httpx2.AsyncClient(base_url=address, timeout=600, limits=limits) as client:
        start = time.perf_counter()
        said = await asyncio.gather(*(ask(client, number) for number in range(AT_ONCE)), return_exceptions=True)
        return sum(one is True for one in said), time.perf_counter() - start


def resident_megabytes(pid: int) -> float:
    """Of a process."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


def main() -> int:
    """Starts a server, asks, prints, and gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    command = [
        sys.executable,
        "-m",
        "public.apps.serve",
        "--weights",
        args.weights,
        "--port",
        "0",
        "--max-seconds",
        "600",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            words = server.stdout.readline().split()
            if not words:
                return 1
            answered, memory = [], []
            for number in range(args.rounds):
                count, seconds = asyncio.run(one_round(words[1]))
                answered.append(count)
                memory.append(resident_megabytes(server.pid))
                print(
                    f"round {number + 1:2d}: {count} of {AT_ONCE} answered rightly, {AT_ONCE / seconds:.1f} a second, "
                    f"{memory[-1]:.0f} MB",
                    flush=True,
                )
        finally:
            server.terminate()
    is_flat = memory[-1] <= 1.05 * memory[(len(memory) - 1) // 2]
    print(f"{'nothing lost' if min(answered) == AT_ONCE else 'LOST'}, memory {'flat' if is_flat else 'GROWS'}")
    return int(min(answered) < AT_ONCE or not is_flat)


if __name__ == "__main__":
    sys.exit(main())
