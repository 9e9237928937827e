"""A call is made again until it succeeds, as those who live with a daemon that may die have to."""

import time

import grpc

# A worker that dies often is restarted with a pause that grows to 5 s.
PATIENCE = 15.0

# Asked again, these say the same again.
HOPELESS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.FAILED_PRECONDITION)


class Impatient(Exception):
    pass


def again(call, done=()):
    """Makes the call until it succeeds; whoever makes it must be able to repeat it. done: the codes by which a second one
    says that the first, which got no answer, was carried out."""
    end = time.monotonic() + PATIENCE
    said = []
    while True:
        try:
            return call()
        except grpc.RpcError as e:
            if said and e.code() in done:
                return None
            text = "%s: %s" % (e.code().name, e.details())
            if text not in said:
                said.append(text)
            if e.code() in HOPELESS or time.monotonic() > end:
                raise Impatient("\n".join(said))
            time.sleep(0.02)
