"""Refusals of the surroundings, and their remedies: a pair of texts by type, code or number of an error."""

import errno

KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's role"
ENDPOINT = "Check AWS_ENDPOINT_URL and the network"
LATER = "Run the same command again later"

S3_CODES: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException"),
        ("S3 does not know the access key", f"Check {KEYS}"),
    ),
    "SignatureDoesNotMatch": ("S3 refuses the signature: the secret key is wrong", f"Check {KEYS}"),
    **dict.fromkeys(
        ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"),
        ("the S3 credentials have expired or are not valid", "Renew them, then run the same command again"),
    ),
    **dict.fromkeys(
        ("AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccountProblem", "InvalidSecurity", "NotSignedUp"),
        (
            "S3 denies access",
            f"Check {KEYS}; they need s3:ListBucket and s3:GetObject, for outputs s3:PutObject and s3:DeleteObject",
        ),
    ),
    "RequestTimeTooSkewed": ("S3 refuses the request because this machine's clock is wrong", "Set the clock"),
    "NoSuchBucket": ("the bucket does not exist", "Create it, or correct the name or AWS_ENDPOINT_URL"),
    "InvalidBucketName": ("S3 refuses the bucket's name", "Correct it"),
    **dict.fromkeys(
        (
            *("PermanentRedirect", "301", "307", "Redirect", "TemporaryRedirect", "AuthorizationHeaderMalformed"),
            *("IllegalLocationConstraintException", "InvalidLocationConstraint"),
        ),
        ("the bucket is in another region", "Set AWS_DEFAULT_REGION to the bucket's region"),
    ),
    **dict.fromkeys(
        ("SlowDown", "503", "ServiceUnavailable", "RequestLimitExceeded", "TooManyRequests", "429"),
        ("S3 is overloaded and refuses requests, after several attempts", LATER),
    ),
    **dict.fromkeys(
        ("InternalError", "500", "502", "504", "OperationAborted", "RequestTimeout"),
        ("S3 fails to answer, after several attempts", LATER),
    ),
    **dict.fromkeys(
        ("QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507", "QuotaExceededException"),
        ("the S3 store is full", "Free some space, or choose another bucket"),
    ),
    **dict.fromkeys(
        ("405", "MethodNotAllowed", "NotImplemented", "501", "400", "BadRequest"),
        ("the server at the S3 endpoint refuses the request", ENDPOINT),
    ),
}

S3_TYPES: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("NoCredentialsError", "PartialCredentialsError"), ("S3 finds no credentials", f"Set {KEYS}")),
    **dict.fromkeys(
        (
            *("CredentialRetrievalError", "TokenRetrievalError", "UnauthorizedSSOTokenError", "SSOTokenLoadError"),
            *("SSOError", "RefreshWithMFAUnsupportedError", "MetadataRetrievalError"),
        ),
        ("S3 credentials cannot be retrieved", f"Log in again, or set {KEYS}"),
    ),
    **dict.fromkeys(
        ("ProfileNotFound", "ConfigNotFound", "ConfigParseError"),
        ("the AWS profile or configuration does not exist or is not readable", "Check AWS_PROFILE and ~/.aws/config"),
    ),
    "NoRegionError": ("S3 needs a region", "Set AWS_DEFAULT_REGION"),
    "ResponseParserError": ("the server at the S3 endpoint does not answer as S3 does", ENDPOINT),
    "ParamValidationError": ("S3 refuses the bucket's or object's name", "Correct it"),
}


HUB_TYPES: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("OfflineModeIsEnabled",),
        ("HF_HUB_OFFLINE is set, and the files are not in the cache", "Unset it, or give a local directory"),
    ),
    "GatedRepoError": ("the Hugging Face hub denies access", "Accept the model's conditions there, and set HF_TOKEN"),
}
HUB = ("huggingface.co", "hf.co")
HUB_REMEDY = "Connect this machine to the network, or give a local directory (the hub's address is HF_ENDPOINT)"


DISK: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("the disk is full", "Free some space, or choose another directory"),
    errno.EDQUOT: ("the disk quota is used up", "Free some space, or choose another directory"),
    errno.EROFS: ("the file system is read-only", "Choose another directory"),
    errno.EACCES: ("permission is denied", "Give this user access, or choose another directory"),
    errno.EPERM: ("the operation is not permitted", "Give this user access, or choose another directory"),
    errno.ENAMETOOLONG: (
        "the name is too long for the file system (255 bytes, and 4,095 for a whole path)",
        "Choose a shorter one",
    ),
    errno.ELOOP: ("its links lead in a circle", "Correct the links"),
    errno.ENOTDIR: ("a part of the path is a file, not a directory", "Choose another path"),
    errno.EMFILE: ("this process may not open more files", "Raise the limit: ulimit -n 65536"),
    errno.ENFILE: ("this machine may not open more files", "Close other programs, or raise fs.file-max"),
    errno.EADDRINUSE: ("another program uses the port", "Stop it, or choose another port"),
    errno.EIO: ("the disk fails to read or write", "Check the disk, or choose another directory"),
    errno.ESTALE: ("the network file system has lost the file", "Mount it again, then run the same command again"),
    errno.EFBIG: ("the file is too large for the file system", "Choose another directory"),
}

RAY_TYPES: dict[str, tuple[str, str]] = {
    "OutOfDiskError": ("Ray's object store cannot spill: the disk is full", "Free space on the disk of RAY_TMPDIR"),
    "ObjectStoreFullError": ("Ray's object store is full", "Give the node more memory, or lower the read-ahead"),
    "LocalRayletDiedError": ("Ray's process on this node has died", LATER),
    "RuntimeEnvSetupError": ("Ray cannot set up the job's environment", "Check the working directory and packages"),
    "AuthenticationError": (
        "Ray refuses the connection without a valid token",
        "Copy the cluster's ~/.ray/auth_token here, or set RAY_AUTH_TOKEN",
    ),
}
RAY_TEXTS: dict[str, tuple[str, str]] = {
    "Version mismatch": (
        "the cluster runs another version of Ray or Python than this process",
        "Use the same environment on all nodes",
    ),
    "Failed to connect to Ray cluster": ("no Ray answers there", "Check RAY_ADDRESS"),
    "timed out during startup": ("Ray did not start on this machine", "See /tmp/ray/session_latest/logs"),
    "AF_UNIX path length": ("its path is too long for Ray's sockets", "Set RAY_TMPDIR to a short one, such as /tmp"),
}
