"""Closed schemas of files that no package here checks, written from their documentation.

They list the documented fields that files like ours use, and refuse all others. The parts are named after the
documentation's: the REST reference of Compute Engine's `instances` (v1), SkyPilot's YAML reference (compared with
SkyPilot 0.14.1), Prometheus' configuration page, and Grafana's classic dashboard JSON model.
"""

from typing import Any

STRING: dict[str, Any] = {"type": "string"}
INTEGER: dict[str, Any] = {"type": "integer"}
BOOLEAN: dict[str, Any] = {"type": "boolean"}
STRINGS: dict[str, Any] = {"type": "object", "additionalProperties": STRING}


def record(required: str = "", **properties: dict[str, Any]) -> dict[str, Any]:
    """An object with these fields and no others; `required` names some of them, with spaces between."""
    return {"type": "object", "properties": properties, "required": required.split()}


def array(items: dict[str, Any]) -> dict[str, Any]:
    """A list with at least one item."""
    return {"type": "array", "items": items, "minItems": 1}


def choice(*values: str) -> dict[str, Any]:
    """One of these texts."""
    return {"type": "string", "enum": values}


INSTANCE = record(
    "machineType disks",
    machineType=STRING,
    disks=array(
        record(
            "boot autoDelete initializeParams",
            boot=BOOLEAN,
            autoDelete=BOOLEAN,
            type=choice("PERSISTENT", "SCRATCH"),
            initializeParams=record(
                "diskSizeGb sourceImage", diskSizeGb=INTEGER, sourceImage=STRING, diskType=STRING, diskName=STRING
            ),
        )
    ),
    scheduling=record(
        "onHostMaintenance",
        provisioningModel=choice("STANDARD", "SPOT", "FLEX_START", "RESERVATION_BOUND"),
        instanceTerminationAction=choice("DELETE", "STOP"),
        onHostMaintenance=choice("MIGRATE", "TERMINATE"),
        automaticRestart=BOOLEAN,
        preemptible=BOOLEAN,
    ),
    serviceAccounts=array(record("email scopes", email=STRING, scopes=array(STRING))),
    guestAccelerators=array(
        record("acceleratorType acceleratorCount", acceleratorType=STRING, acceleratorCount=INTEGER)
    ),
    networkInterfaces=array(record("", network=STRING, subnetwork=STRING)),
    metadata=record("items", items=array(record("key value", key=STRING, value=STRING))),
    tags=record("items", items=array(STRING)),
    labels=STRINGS,
    minCpuPlatform=STRING,
)
"""An instance of Compute Engine: `node_config` of a node type in a launcher file for Google Cloud."""

SKYPILOT_TASK = record(
    "name resources run",
    name=STRING,
    workdir=STRING,
    num_nodes=INTEGER,
    resources=record(
        "use_spot job_recovery",
        infra=STRING,
        accelerators={"type": "object", "additionalProperties": {"type": "number", "nullable": True}},
        cpus=STRING,
        memory=STRING,
        instance_type=STRING,
        use_spot=BOOLEAN,
        job_recovery=record(
            "strategy",
            strategy=choice("EAGER_NEXT_REGION", "FAILOVER"),
            max_restarts_on_errors={"type": "integer", "minimum": 0},
            recover_on_exit_codes=array(INTEGER),
        ),
        disk_size=INTEGER,
        disk_tier=STRING,
        network_tier=STRING,
        image_id=STRING,
        ports=STRING,
        labels=STRINGS,
    ),
    envs=STRINGS,
    secrets={"type": "object", "additionalProperties": {"type": "string", "nullable": True}},
    file_mounts=STRINGS,
    setup=STRING,
    run=STRING,
)
"""A task of SkyPilot."""

_SELECTOR = record("role", role=choice("pod", "service", "node", "endpoints"), label=STRING, field=STRING)
_AUTHORIZATION = record("type", type=choice("Bearer"), credentials=STRING, credentials_file=STRING)
PROMETHEUS = record(
    "scrape_configs",
    **{"global": record("scrape_interval", scrape_interval=STRING, evaluation_interval=STRING, scrape_timeout=STRING)},
    scrape_configs=array(
        record(
            "job_name",
            job_name=STRING,
            scrape_interval=STRING,
            metrics_path=STRING,
            scheme=choice("http", "https"),
            authorization=_AUTHORIZATION,
            kubernetes_sd_configs=array(
                record(
                    "role",
                    role=choice("pod", "service", "node", "endpoints", "endpointslice", "ingress"),
                    namespaces=record("names", names=array(STRING)),
                    selectors=array(_SELECTOR),
                )
            ),
            http_sd_configs=array(record("url", url=STRING, refresh_interval=STRING, authorization=_AUTHORIZATION)),
            file_sd_configs=array(record("files", files=array(STRING))),
            static_configs=array(record("targets", targets=array(STRING), labels=STRINGS)),
            relabel_configs=array(
                record(
                    "source_labels",
                    source_labels=array(STRING),
                    separator=STRING,
                    target_label=STRING,
                    regex=STRING,
                    replacement=STRING,
                    action=choice("replace", "keep", "drop", "labelmap", "labeldrop", "labelkeep", "hashmod"),
                )
            ),
        )
    ),
)
"""Prometheus' configuration."""

_LIST = {"type": "array", "items": STRING}
_DATASOURCE = record("type uid", type=choice("prometheus"), uid=STRING)
_PANEL = record(
    "id type title description datasource gridPos fieldConfig options targets",
    id=INTEGER,
    type=choice("timeseries"),
    title=STRING,
    description=STRING,
    datasource=_DATASOURCE,
    gridPos=record("h w x y", h=INTEGER, w=INTEGER, x=INTEGER, y=INTEGER),
    fieldConfig=record(
        "defaults overrides",
        defaults=record("unit", unit=choice("none", "percentunit", "s", "bytes"), min=INTEGER, max=INTEGER),
        overrides=_LIST,
    ),
    options=record(
        "legend tooltip",
        legend=record(
            "displayMode placement showLegend",
            displayMode=choice("list", "table", "hidden"),
            placement=choice("bottom", "right"),
            showLegend=BOOLEAN,
        ),
        tooltip=record("mode sort", mode=choice("single", "multi", "none"), sort=choice("none", "asc", "desc")),
    ),
    targets=array(
        record(
            "refId expr legendFormat datasource", refId=STRING, expr=STRING, legendFormat=STRING, datasource=_DATASOURCE
        )
    ),
)
_VARIABLE = record(
    "name label type query refresh hide includeAll multi current options",
    name=STRING,
    label=STRING,
    type=choice("datasource", "query"),
    query=STRING,
    definition=STRING,
    datasource=_DATASOURCE,
    refresh={"type": "integer", "enum": (0, 1, 2)},
    sort=INTEGER,
    hide={"type": "integer", "enum": (0, 1, 2)},
    includeAll=BOOLEAN,
    allValue=STRING,
    multi=BOOLEAN,
    current=record(),
    options=_LIST,
)
DASHBOARD = record(
    "uid title description tags timezone editable graphTooltip schemaVersion version refresh time annotations links"
    " templating panels",
    uid={"type": "string", "pattern": "^[a-zA-Z0-9_-]{8,40}$"},
    title=STRING,
    description=STRING,
    tags=_LIST,
    timezone=choice("browser", "utc"),
    editable=BOOLEAN,
    graphTooltip={"type": "integer", "enum": (0, 1, 2)},
    schemaVersion=INTEGER,
    version=INTEGER,
    refresh=STRING,
    time=record("from to", **{"from": STRING, "to": STRING}),
    annotations=record("list", list=_LIST),
    links=_LIST,
    templating=record("list", list=array(_VARIABLE)),
    panels=array(_PANEL),
)
"""A dashboard of Grafana, in the classic model."""
