"""What a RayService of KubeRay may say (`ray.io/v1`), but for what it holds of Kubernetes' own kinds.

Written from the field reference of the custom resource definitions (KubeRay 1.6,
https://docs.ray.io/en/master/cluster/kubernetes/references/api.html): every field of these levels, and no other.
Pod templates and services inside are Kubernetes' own, which `kubernetes-validate` knows in full.
"""

from typing import Any

STRING, BOOLEAN, COUNT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
STRINGS = {"type": "object", "additionalProperties": STRING}
SHARE = {"type": "integer", "minimum": 0, "maximum": 100}
OF_KUBERNETES = {"type": "object"}


def strictly(required: tuple[str, ...] = (), /, **fields: dict[str, Any]) -> dict[str, Any]:
    """An object of these fields."""
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": fields}


def one_of(*words: str) -> dict[str, Any]:
    return {"enum": list(words)}


CREDENTIAL = strictly(value=STRING, valueFrom=OF_KUBERNETES)

FAULT_TOLERANCE = strictly(
    redisAddress=STRING, redisUsername=CREDENTIAL, redisPassword=CREDENTIAL, externalStorageNamespace=STRING
)

HEAD = strictly(
    ("template",),
    enableIngress=BOOLEAN,
    headService=OF_KUBERNETES,
    labels=STRINGS,
    rayStartParams=STRINGS,
    resources=STRINGS,
    serviceType=one_of("ClusterIP", "NodePort", "LoadBalancer"),
    template=OF_KUBERNETES,
)

WORKERS = strictly(
    ("groupName", "template", "minReplicas", "maxReplicas"),
    groupName=STRING,
    idleTimeoutSeconds=COUNT,
    labels=STRINGS,
    maxReplicas=COUNT,
    minReplicas=COUNT,
    numOfHosts=COUNT,
    rayStartParams=STRINGS,
    replicas=COUNT,
    resources=STRINGS,
    scaleStrategy=strictly(workersToDelete={"type": "array", "items": STRING}),
    suspend=BOOLEAN,
    template=OF_KUBERNETES,
)

CLUSTER = strictly(
    ("headGroupSpec",),
    authOptions=strictly(mode=one_of("disabled", "token"), enableK8sTokenAuth=BOOLEAN, secretName=STRING),
    autoscalerOptions={"type": "object"},
    enableInTreeAutoscaling=BOOLEAN,
    gcsFaultToleranceOptions=FAULT_TOLERANCE,
    headGroupSpec=HEAD,
    headServiceAnnotations=STRINGS,
    managedBy=STRING,
    rayVersion=STRING,
    suspend=BOOLEAN,
    workerGroupSpecs={"type": "array", "items": WORKERS},
)

UPGRADE = strictly(
    type=one_of("NewClusterWithIncrementalUpgrade", "NewCluster", "None"),
    clusterUpgradeOptions=strictly(
        ("gatewayClassName",),
        gatewayClassName=STRING,
        intervalSeconds=COUNT,
        maxSurgePercent=SHARE,
        stepSizePercent=SHARE,
    ),
)

RAY_SERVICE = strictly(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayService"},
    metadata=OF_KUBERNETES,
    spec=strictly(
        deploymentUnhealthySecondThreshold=COUNT,
        excludeHeadPodFromServeSvc=BOOLEAN,
        managedBy=STRING,
        rayClusterConfig=CLUSTER,
        rayClusterDeletionDelaySeconds=COUNT,
        serveConfigV2=STRING,
        serveService=OF_KUBERNETES,
        serviceUnhealthySecondThreshold=COUNT,
        upgradeStrategy=UPGRADE,
    ),
)
