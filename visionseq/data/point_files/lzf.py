"""LZF (liblzf), the compression of PCD files: runs of plain bytes, and references back to earlier bytes."""

from visionseq.kernels.compiled import exact


@exact
def unpack(source, target):
    """Fill `target` (uint8) from `source`; the number of bytes written, or -1 where the data point outside."""
    read, written = 0, 0
    while read < len(source):
        control = int(source[read])
        read += 1

        # A run: `control` + 1 plain bytes.
        if control < 32:
            length = control + 1
            if read + length > len(source) or written + length > len(target):
                return -1
            for _ in range(length):
                target[written] = source[read]
                read += 1
                written += 1

        # A reference: three bits of length (seven: more in the next byte), thirteen bits of distance.
        else:
            length = control >> 5
            if length == 7:
                if read >= len(source):
                    return -1
                length += int(source[read])
                read += 1
            if read >= len(source):
                return -1
            reference = written - ((control & 31) << 8) - int(source[read]) - 1
            read += 1
            length += 2
            if reference < 0 or written + length > len(target):
                return -1
            for i in range(length):
                target[written] = target[reference + i]
                written += 1
    return written
